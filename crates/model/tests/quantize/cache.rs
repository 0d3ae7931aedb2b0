//! Does the second start map what the first one packed, and is a copy that cannot be trusted made again?

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use model::weights::{self, CacheUse, PackedCache};
use model::{Model, Precision};
use tempfile::TempDir;

use crate::file::{family, options, scores};

/// A model whose files may be changed, and a cache.
struct Place {
    model: TempDir,
    cache: PackedCache,
    _folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self::of("qwen3")
    }

    fn of(name: &str) -> Self {
        let (model, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for file in fs::read_dir(family(name)).unwrap().flatten() {
            fs::copy(file.path(), model.path().join(file.file_name())).unwrap();
        }
        let cache = PackedCache {
            folder: folder.path().join("packed"),
            bytes_max: 1 << 30,
            bytes_least: 0,
            verify: false,
        };
        Self { model, cache, _folder: folder }
    }

    fn load(&self, precision: Option<Precision>) -> Model {
        let checkpoint = weights::open(self.model.path()).unwrap();
        Model::load_cached(&checkpoint, &options(precision), &self.cache, &mut |_| {}).unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.cache.folder).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        files.sort();
        files
    }

    /// Replaces the one copy, as a damaged disk would.
    fn damage(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let [file] = &self.files()[..] else { panic!("there is one copy: {:?}", self.files()) };
        let mut bytes = fs::read(file).unwrap();
        change(&mut bytes);
        fs::remove_file(file).unwrap();
        fs::write(file, bytes).unwrap();
    }
}

fn is_written(model: &Model) -> bool {
    matches!(model.report().cache, CacheUse::Written { .. })
}
fn is_mapped(model: &Model) -> bool {
    matches!(model.report().cache, CacheUse::Mapped(_))
}

/// What is done to a file, and how it is called.
type Named<'a, T> = (&'a str, &'a dyn Fn(&T));
type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);

#[test]
fn the_second_start_maps_what_the_first_one_packed_and_answers_the_same() {
    for precision in [None, Some(Precision::Bf16), Some(Precision::Int8), Some(Precision::Int4)] {
        for name in ["qwen3", "qwen3-moe", "mixtral"] {
            let place = Place::of(name);
            let mut first = place.load(precision);
            assert!(is_written(&first), "{:?}", first.report());
            let mut second = place.load(precision);
            assert!(is_mapped(&second), "{:?}", second.report());
            assert!(second.report().warnings.is_empty());
            assert_eq!(scores(&mut second), scores(&mut first));
            assert_eq!(second.report().resident_bytes, first.report().resident_bytes);
            assert_eq!(second.report().file_bytes, first.report().file_bytes);
            assert_eq!(place.files().len(), 1);
        }
    }
}

#[test]
fn each_way_of_keeping_a_model_has_a_copy_of_its_own() {
    let place = Place::new();
    for precision in [Some(Precision::Int8), Some(Precision::Int4), None] {
        assert!(is_written(&place.load(precision)));
    }
    assert_eq!(place.files().len(), 3);
    assert_eq!(place.load(Some(Precision::Int4)).report().precision, Precision::Int4);
}

#[test]
fn a_copy_of_a_model_that_has_changed_is_named_and_made_again() {
    let changes: [Named<'_, Path>; 3] = [
        ("changed at", &|folder| {
            let file = fs::File::options().append(true).open(folder.join("model.safetensors")).unwrap();
            file.set_modified(SystemTime::now() + Duration::from_secs(9)).unwrap();
        }),
        ("model.safetensors", &|folder| {
            // Sharper norms, in a file of the same size.
            let path = folder.join("model.safetensors");
            let mut bytes = fs::read(&path).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
        }),
        ("headers", &|folder| {
            let path = folder.join("config.json");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replacen('{', "{\"rms_norm_eps\": 0.01,", 1)).unwrap();
        }),
    ];
    for (words, change) in changes {
        let place = Place::new();
        place.load(None);
        change(place.model.path());
        let again = place.load(None);
        let warnings = &again.report().warnings;
        assert!(is_written(&again) && warnings.len() == 1, "{words}: {:?}", again.report());
        assert!(warnings[0].contains(words) && warnings[0].contains(".packed"), "{words}: {}", warnings[0]);
        assert!(is_mapped(&place.load(None)));
    }
}

#[test]
fn a_damaged_copy_is_named_and_made_again() {
    let damages: [(&str, Damage<'_>); 4] = [
        ("cut", &|bytes| bytes.truncate(bytes.len() / 2)),
        ("empty", &|bytes| bytes.clear()),
        ("another format", &|bytes| bytes[8] = 99),
        ("a broken index", &|bytes| {
            let last = bytes.len() - 5;
            bytes[last] ^= 4;
        }),
    ];
    for (what, damage) in damages {
        let place = Place::new();
        let mut sound = place.load(None);
        place.damage(damage);
        let mut again = place.load(None);
        assert!(is_written(&again), "{what}: {:?}", again.report());
        assert!(again.report().warnings[0].contains(".packed"), "{what}: {:?}", again.report().warnings);
        assert_eq!(scores(&mut again), scores(&mut sound), "{what}");
        assert!(is_mapped(&place.load(None)), "{what}");
    }
}

#[test]
fn a_flipped_bit_in_the_weights_is_found_where_it_is_looked_for() {
    let mut place = Place::new();
    place.load(None);
    place.damage(|bytes| bytes[200] ^= 1);
    assert!(is_mapped(&place.load(None)), "weights are not read at the start unless it is asked for");
    place.cache.verify = true;
    let again = place.load(None);
    assert!(is_written(&again) && again.report().warnings[0].contains("checksum"), "{:?}", again.report());
    assert!(is_mapped(&place.load(None)));
}

#[test]
fn where_no_copy_can_be_written_the_model_is_served_all_the_same() {
    let mut place = Place::new();
    // A file stands where the folder should be.
    fs::write(&place.cache.folder, "in the way").unwrap();
    let mut model = place.load(None);
    assert_eq!(model.report().cache, CacheUse::Failed);
    assert!(model.report().warnings[0].contains("no packed copy"), "{:?}", model.report().warnings);
    scores(&mut model);

    fs::remove_file(&place.cache.folder).unwrap();
    place.cache.bytes_max = 20_000;
    let mut model = place.load(None);
    assert_eq!(model.report().cache, CacheUse::Failed);
    assert!(model.report().warnings[0].contains("packed_cache_gib"), "{:?}", model.report().warnings);
    assert_eq!(place.files(), Vec::<PathBuf>::new(), "half a copy is not left behind");
    scores(&mut model);
}

#[test]
fn nothing_is_copied_where_nobody_wants_it_or_the_model_is_small() {
    let mut place = Place::new();
    place.cache.bytes_least = 1 << 30;
    assert_eq!(place.load(None).report().cache, CacheUse::None);
    place.cache = PackedCache { bytes_least: 0, bytes_max: 0, ..place.cache };
    assert_eq!(place.load(None).report().cache, CacheUse::None);
    assert!(!place.cache.folder.exists());
}

#[test]
fn what_was_not_used_for_the_longest_time_makes_room_and_old_parts_are_swept() {
    let mut place = Place::new();
    place.load(Some(Precision::Int8));
    let int8 = place.files().remove(0);
    let CacheUse::Written { bytes, .. } = place.load(Some(Precision::Bf16)).report().cache.clone() else {
        panic!("a copy was written")
    };
    let old = SystemTime::now() - Duration::from_secs(7200);
    let part = place.cache.folder.join("model.packed.1-1.part");
    fs::write(&part, "half").unwrap();
    for path in place.files() {
        fs::File::options().append(true).open(path).unwrap().set_modified(old).unwrap();
    }
    // Used now, so bf16 is the older one.
    assert!(is_mapped(&place.load(Some(Precision::Int8))));
    place.cache.bytes_max = bytes + bytes / 2;
    assert!(is_written(&place.load(Some(Precision::Int4))));
    let left = place.files();
    assert!(left.contains(&int8) && left.len() == 2 && !left.contains(&part), "{left:?}");
}
