//! Whether the index of warm prefixes finds what was seen, forgets the oldest first and never grows.

mod common;

use std::collections::VecDeque;

use common::ms;
use fleet::*;
use proptest::prelude::*;

fn prefix(text: &[u8]) -> Prefix {
    let mut hasher = PrefixHasher::new(7, "acme");
    hasher.write(text);
    hasher.finish()
}
/// A prompt of blocks, each of one letter.
fn prompt(letters: &str) -> Prefix {
    prefix(&letters.bytes().flat_map(|letter| [letter; BLOCK_BYTES]).collect::<Vec<_>>())
}
fn warm(index: &WarmIndex, unit: &str, letters: &str, now_ms: u64) -> u64 {
    index.warm_tokens(&unit.into(), &prompt(letters), letters.len() as u64, ms(now_ms))
}
const LIFE: std::time::Duration = WarmIndex::LIFETIME;

#[test]
fn what_one_unit_saw_is_warm_there_up_to_where_prompts_part() {
    let mut index = WarmIndex::with_bytes(64 * 1024);
    index.saw(&"a".into(), &prompt("system"), LIFE, ms(0));
    assert_eq!(warm(&index, "a", "system and more", 1), 6);
    assert_eq!(warm(&index, "a", "sys", 1), 3);
    assert_eq!(warm(&index, "a", "syntax", 1), 2);
    assert_eq!(warm(&index, "a", "ystem", 1), 0, "a block counts only behind all before it");
    assert_eq!(warm(&index, "b", "system", 1), 0);
    assert_eq!(warm(&index, "a", "system", 300_000), 0, "five minutes have passed");
    index.saw(&"a".into(), &prompt("system"), ms(3_600_000), ms(300_000));
    index.saw(&"a".into(), &prompt("system"), LIFE, ms(300_001));
    assert_eq!(warm(&index, "a", "system", 3_000_000), 6, "what lives an hour is not shortened");
}

#[test]
fn the_same_bytes_hash_alike_however_they_are_written_and_apart_in_another_scope() {
    let text: Vec<u8> = (0..5000u32).flat_map(u32::to_le_bytes).collect();
    let mut pieces = PrefixHasher::new(7, "acme");
    text.chunks(37).for_each(|piece| pieces.write(piece));
    assert_eq!(pieces.finish(), prefix(&text));
    let mut other = PrefixHasher::new(7, "other");
    other.write(&text);
    assert_ne!(other.finish(), prefix(&text));
    assert_eq!(prefix(&text).blocks(), text.len() / BLOCK_BYTES);
    assert_eq!(prefix(&text).tokens_in(prefix(&text).blocks(), 5000), 5000 * 19 * 1024 / 20_000);
}

#[test]
fn the_oldest_use_goes_first_and_of_one_prompt_its_end() {
    // 32 nodes.
    let mut index = WarmIndex::with_bytes(1024);
    let letters = "abcdefghijklmnopqrstuvwxyz";
    index.saw(&"a".into(), &prompt(letters), LIFE, ms(0));
    index.saw(&"b".into(), &prompt("0123456789"), LIFE, ms(1));
    assert_eq!(warm(&index, "b", "0123456789", 2), 10);
    assert_eq!(warm(&index, "a", letters, 2), 22, "four had to go: the last four of the older prompt");
    index.check_integrity();
}

#[test]
fn an_index_grows_with_what_it_holds_and_adversarial_prompts_never_move_its_bound() {
    let mut index = WarmIndex::with_bytes(1_000_000);
    assert!(index.bytes() <= 64 << 10, "{}", index.bytes());
    let mut text = vec![0u8; 64 * BLOCK_BYTES];
    for round in 0..2000u64 {
        // Every prompt parts from all others in its first block, at a unit of its own.
        text[..8].copy_from_slice(&round.to_le_bytes());
        index.saw(&UnitId::new(format!("u{round}")), &prefix(&text), LIFE, ms(round));
        assert!(index.bytes() <= 1_000_000);
        assert!(index.bytes() <= (64 << 10).max(64 * index.len()), "it is a quarter full, or new");
    }
    let bytes = index.bytes();
    assert!(bytes > 500_000, "{bytes}");
    index.check_integrity();
    let endless = prefix(&vec![1; 5_000_000]);
    assert_eq!(endless.blocks(), 2048, "a prompt's own chain is bounded too");
    index.saw(&"a".into(), &endless, LIFE, ms(3000));
    assert_eq!(index.bytes(), bytes);
    index.check_integrity();
}

#[test]
fn the_smallest_index_still_works() {
    let mut index = WarmIndex::with_bytes(0);
    index.saw(&"a".into(), &prompt("ab"), LIFE, ms(0));
    assert_eq!((index.len(), warm(&index, "a", "ab", 0)), (1, 1));
    index.saw(&"a".into(), &prompt("c"), LIFE, ms(0));
    assert_eq!((index.len(), warm(&index, "a", "ab", 0), warm(&index, "a", "c", 0)), (1, 0, 1));
    index.check_integrity();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// The plain version: a list of (unit, letters so far), the oldest use in front.
    #[test]
    fn it_says_what_a_plain_list_says(
        uses in prop::collection::vec((0usize..3, "[ab]{1,6}"), 1..60),
        bytes in 0usize..2000,
    ) {
        let units = ["x", "y", "z"];
        let mut index = WarmIndex::with_bytes(bytes);
        let bound = index.bytes();
        let capacity = (bound - 4) / 24; // at least what fits; refined below by what the index holds when full
        let mut list: VecDeque<(usize, String)> = VecDeque::new();
        let mut held = 0;
        for (number, (unit, letters)) in uses.iter().enumerate() {
            index.saw(&units[*unit].into(), &prompt(letters), LIFE, ms(number as u64));
            index.check_integrity();
            prop_assert_eq!(index.bytes(), bound);
            held = held.max(index.len());
            prop_assert!(held <= capacity.max(1));
            for end in (1..=letters.len()).rev() {
                let entry = (*unit, letters[..end].to_owned());
                list.retain(|other| *other != entry);
                list.push_back(entry);
            }
            while list.len() > index.len() {
                list.pop_front();
            }
            prop_assert_eq!(list.len(), index.len());
            for (unit, name) in units.iter().enumerate() {
                for probe in ["aaaaaa", "abab", "bbb", "baabba"] {
                    let is_listed = |end: &usize| list.contains(&(unit, probe[..*end].to_owned()));
                    let expected = (1..=probe.len()).take_while(is_listed).count() as u64;
                    prop_assert_eq!(warm(&index, name, probe, number as u64), expected, "{} {}", name, probe);
                }
            }
        }
    }
}
