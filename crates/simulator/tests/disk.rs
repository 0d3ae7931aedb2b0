//! What memory has no room for is found again on disk, and whatever the disk does, no answer changes.

use std::sync::Arc;
use std::time::Duration;

use domain::{DiskStatus, Priority, Tenant, TokenId, Work};
use engine::{DiskConfig, DiskPlace, EngineConfig};
use simulator::disk::{FakeDisk, Troubles};
use simulator::random::Random;
use simulator::toy::{Fault, FaultKind, ToySettings, greedy_answer};
use simulator::world::{World, config, key, work};

/// A block of the toy, its header and its padding.
const SLOT: u64 = 4096;
const AGENTS: u64 = 6;
/// Ten full blocks and a bit.
const PROMPT: usize = 330;
/// As long as a disk is left alone that failed.
const REST: Duration = Duration::from_secs(30);

fn tokens(seed: u64, count: usize) -> Vec<TokenId> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.between(1, 60) as TokenId).collect()
}

/// Room for two agents in memory, and for so many blocks on disk.
fn on_disk(disk: &FakeDisk, slots: u64) -> EngineConfig {
    with_identity(disk, slots, [1; 32])
}

fn with_identity(disk: &FakeDisk, slots: u64, identity: [u8; 32]) -> EngineConfig {
    let place = DiskPlace::Given(Arc::new(disk.clone()));
    EngineConfig { disk: Some(DiskConfig { bytes: SLOT * (slots + 1), place, identity }), ..config(24) }
}

fn open(config: EngineConfig) -> World {
    open_toy(ToySettings::default(), config)
}

fn open_toy(toy: ToySettings, config: EngineConfig) -> World {
    let mut world = World::new(toy, config);
    world.rest();
    world
}

/// Asks, checks the answer against the oracle, lets the engine rest, and returns how many tokens were found.
fn ask(world: &mut World, name: &str, prompt: &[TokenId]) -> u32 {
    world.submit(work(name, prompt.to_vec()));
    world.run();
    world.rest();
    let answer = world.answer(&key(name));
    assert_eq!(answer.tokens, greedy_answer(prompt, 8, &[], 61), "{name}");
    answer.usage().cached_tokens
}

/// Every agent comes in turn, so many times; each brings a little more each time. Returns what was found in all.
fn rounds(world: &mut World, rounds: u64) -> u32 {
    let mut found = 0;
    for round in 0..rounds {
        for agent in 0..AGENTS {
            let prompt = tokens(agent, PROMPT + 8 * round as usize);
            found += ask(world, &format!("agent {agent} in round {round}"), &prompt);
        }
    }
    found
}

fn disk(world: &World) -> DiskStatus {
    world.status().disk
}

#[test]
fn agents_that_return_find_their_prompts_though_memory_held_only_two_of_them() {
    let fake = FakeDisk::default();
    let mut with = open(on_disk(&fake, 200));
    let mut without = open(config(24));
    let (found, found_without) = (rounds(&mut with, 4), rounds(&mut without, 4));
    assert_eq!(found_without, 0, "memory alone has forgotten each before it returns");
    // In each of three rounds six agents find ten blocks.
    assert_eq!(found, 3 * 6 * 320);
    let status = disk(&with);
    assert_eq!(status.hit_tokens, u64::from(found), "all of it came back from disk");
    assert_eq!((status.lost, status.damaged, status.errors, status.late), (0, 0, 0, 0));
    assert!(with.rows_computed() * 2 < without.rows_computed());
}

#[test]
fn the_file_never_grows_past_its_bound_and_keeps_what_was_used_last() {
    let fake = FakeDisk::default();
    // Room for three agents and memory's margin.
    let mut world = open(on_disk(&fake, 35));
    rounds(&mut world, 3);
    let status = disk(&world);
    assert_eq!(status.bytes_max, 36 * SLOT);
    assert!(status.spilled > 60, "only {} blocks went down", status.spilled);
    assert!(status.bytes_used <= 35 * SLOT && status.bytes_used > 30 * SLOT, "{}", status.bytes_used);
    assert_eq!(fake.longest(), 36 * SLOT);
    ask(&mut world, "again", &tokens(5, PROMPT + 16));
    assert!(ask(&mut world, "once more", &tokens(4, PROMPT + 16)) > 0, "the last but one is still there");
}

#[test]
fn a_disk_smaller_than_memory_comes_to_rest() {
    let fake = FakeDisk::default();
    let mut world = open(on_disk(&fake, 3));
    // `rest` would never return if blocks pushed each other out for ever.
    rounds(&mut world, 2);
    let writes = fake.writes();
    world.rest();
    assert_eq!(fake.writes(), writes);
}

#[test]
fn a_tenant_never_finds_what_another_left_on_disk() {
    let fake = FakeDisk::default();
    let mut world = open(on_disk(&fake, 200));
    rounds(&mut world, 1);
    let prompt = tokens(0, PROMPT);
    world.submit(Work { tenant: Tenant::from("other"), ..work("theirs", prompt.clone()) });
    world.run();
    assert_eq!(world.answer(&key("theirs")).usage().cached_tokens, 0);
    assert_eq!(disk(&world).restored, 0);
    assert_eq!(ask(&mut world, "mine", &prompt), 320);
}

#[test]
fn what_is_kept_survives_a_restart() {
    let fake = FakeDisk::default();
    let mut world = open(on_disk(&fake, 200));
    rounds(&mut world, 1);
    world.close();
    let mut world = open(on_disk(&fake, 200));
    assert_eq!(rounds(&mut world, 1), 6 * 320);
    assert_eq!(disk(&world).hit_tokens, 6 * 320);
}

#[test]
fn another_models_blocks_are_never_used_and_their_room_is_freed() {
    let fake = FakeDisk::default();
    let mut world = open(on_disk(&fake, 200));
    rounds(&mut world, 1);
    world.close();
    let mut world = open(with_identity(&fake, 200, [2; 32]));
    assert_eq!(disk(&world).bytes_used, 0);
    assert_eq!(rounds(&mut world, 1), 0);
    assert!(rounds_again(&mut world) > 0, "its own are");
}

fn rounds_again(world: &mut World) -> u32 {
    (0..AGENTS).map(|agent| ask(world, &format!("{agent} again"), &tokens(agent, PROMPT))).sum()
}

#[test]
fn other_shapes_of_blocks_are_another_models() {
    let fake = FakeDisk::default();
    let mut world = open(on_disk(&fake, 200));
    rounds(&mut world, 1);
    world.close();
    let toy = ToySettings { block_tokens: 16, ..ToySettings::default() };
    let mut world = open_toy(toy, on_disk(&fake, 200));
    assert_eq!((rounds(&mut world, 1), disk(&world).damaged), (0, 0));
}

#[test]
fn rotten_blocks_are_dropped_counted_and_computed_again() {
    // In the mark, the name, the checksum itself and the block.
    for at in [3, 50, 90, 130, 128 + 767] {
        let fake = FakeDisk::default();
        let mut world = open(on_disk(&fake, 200));
        rounds(&mut world, 1);
        fake.rot(at);
        let mut found = 0;
        for agent in 0..3 {
            found += ask(&mut world, &format!("{agent} again"), &tokens(agent, PROMPT));
        }
        let status = disk(&world);
        assert_eq!((found, status.restored, status.errors), (0, 0, 0), "byte {at}");
        assert!(status.damaged >= 30, "{} damaged, byte {at}", status.damaged);
        // What was computed again went down again, and is whole.
        for agent in 3..AGENTS {
            ask(&mut world, &format!("{agent} again"), &tokens(agent, PROMPT));
        }
        assert_eq!(ask(&mut world, "0 once more", &tokens(0, PROMPT)), 320, "byte {at}");
    }
}

#[test]
fn a_restart_over_rotten_slots_answers_as_ever() {
    let fake = FakeDisk::default();
    let mut world = open(on_disk(&fake, 200));
    rounds(&mut world, 1);
    world.close();
    fake.rot(300);
    let mut world = open(on_disk(&fake, 200));
    assert_eq!(rounds(&mut world, 1), 0);
    assert!(disk(&world).damaged >= 60);
}

#[test]
fn a_disk_that_fails_is_left_alone_and_tried_again() {
    let troubles = [
        Troubles { is_full: true, ..Troubles::default() },
        Troubles { is_read_only: true, ..Troubles::default() },
        Troubles { is_broken: true, ..Troubles::default() },
    ];
    for trouble in troubles {
        let fake = FakeDisk::default();
        let mut world = open(on_disk(&fake, 200));
        rounds(&mut world, 1);
        fake.trouble(trouble);
        for agent in 0..AGENTS {
            ask(&mut world, &format!("{agent} in trouble"), &tokens(agent, PROMPT + 64));
        }
        let status = disk(&world);
        assert!(status.resting && status.errors > 0, "{trouble:?}: {status:?}");
        // Each rest is half a minute of virtual time, and all of this takes a few seconds.
        assert!(status.errors <= 64, "one failure, and what was under way with it: {status:?}");
        fake.trouble(Troubles::default());
        world.sleep(REST);
        rounds_again(&mut world);
        world.sleep(REST);
        for agent in 0..AGENTS {
            ask(&mut world, &format!("{agent} once more"), &tokens(agent, PROMPT));
        }
        assert!(disk(&world).spilled > status.spilled, "{trouble:?}: it is written again");
        assert!(disk(&world).hit_tokens >= status.hit_tokens + 4 * 320, "{trouble:?}: it serves again");
        assert!(!disk(&world).resting);
    }
}

#[test]
fn a_file_that_was_removed_is_given_up() {
    let fake = FakeDisk::default();
    let mut world = open(on_disk(&fake, 200));
    rounds(&mut world, 1);
    fake.trouble(Troubles { is_removed: true, ..Troubles::default() });
    rounds_again(&mut world);
    for agent in 0..AGENTS {
        ask(&mut world, &format!("new {agent}"), &tokens(10 + agent, PROMPT));
    }
    let writes = fake.writes();
    for agent in 0..AGENTS {
        ask(&mut world, &format!("newer {agent}"), &tokens(20 + agent, PROMPT));
    }
    assert!(disk(&world).resting && disk(&world).errors > 0);
    assert_eq!(fake.writes(), writes, "nothing is written to a file that nobody will find");
}

#[test]
fn a_place_that_cannot_be_used_costs_the_tier_and_nothing_else() {
    let nowhere = DiskPlace::Kept("/proc/nowhere/blocks".into());
    let tiny =
        DiskConfig { bytes: 10, place: DiskPlace::Given(Arc::new(FakeDisk::default())), identity: [1; 32] };
    for disk_config in [DiskConfig { bytes: 1 << 20, place: nowhere, identity: [1; 32] }, tiny] {
        let mut world = open(EngineConfig { disk: Some(disk_config), ..config(24) });
        assert_eq!(rounds(&mut world, 1), 0);
        assert!(disk(&world).resting && disk(&world).errors == 1);
    }
}

#[test]
fn a_disk_slower_than_computing_is_not_asked() {
    let fake = FakeDisk::default();
    // A block takes the toy 8 ms.
    let mut world = open(on_disk(&fake, 200));
    rounds(&mut world, 1);
    fake.trouble(Troubles { read_takes: Duration::from_millis(40), ..Troubles::default() });
    // The first that is waited for comes late, and tells how slow the disk has become.
    rounds_again(&mut world);
    assert_eq!((disk(&world).late, disk(&world).not_worth), (1, 0));
    world.sleep(REST);
    let restored = disk(&world).restored;
    for agent in 0..AGENTS {
        ask(&mut world, &format!("{agent} once more"), &tokens(agent, PROMPT));
    }
    let status = disk(&world);
    assert_eq!((status.late, status.restored), (1, restored));
    assert!(status.not_worth >= 20, "{status:?}");
}

#[test]
fn a_disk_that_hangs_costs_one_wait_and_holds_up_nobody_else() {
    let fake = FakeDisk::default();
    let mut world = open(on_disk(&fake, 200));
    rounds(&mut world, 1);
    fake.trouble(Troubles { hangs: true, ..Troubles::default() });
    let prompt = tokens(0, PROMPT);
    world.submit(work("returns", prompt.clone()));
    world.step();
    assert!(world.heard_of(&key("returns")).is_none(), "it waits");
    let before = world.now();
    world.submit(Work { max_output_tokens: 1, ..work("other", tokens(50, 40)) });
    world.step();
    assert!(world.has_ended(&key("other")), "another does not");
    world.run();
    assert_eq!(world.answer(&key("returns")).tokens, greedy_answer(&prompt, 8, &[], 61));
    // It waited as long as computing takes, and then computed: 330 rows and eight tokens of answer.
    assert!(world.now() - before < Duration::from_millis(500), "{:?}", world.now() - before);
    let status = disk(&world);
    assert!(status.late == 1 && status.resting, "{status:?}");
    fake.trouble(Troubles::default());
    world.rest();
}

#[test]
fn a_higher_class_does_not_wait_while_it_displaces_others() {
    let fake = FakeDisk::default();
    let mut world = open(on_disk(&fake, 200));
    rounds(&mut world, 1);
    for number in 0..2 {
        let batch =
            Work { priority: Priority::Batch, max_output_tokens: 200, ..work("", tokens(60 + number, 300)) };
        world.submit(Work { key: key(&format!("batch {number}")), ..batch });
    }
    (0..5).for_each(|_| world.step());
    world.submit(Work { priority: Priority::High, ..work("high", tokens(0, PROMPT)) });
    world.step();
    assert!(world.heard_of(&key("high")).is_some(), "it started at once");
    world.run();
    assert_eq!(world.answer(&key("high")).tokens, greedy_answer(&tokens(0, PROMPT), 8, &[], 61));
}

#[test]
fn what_a_failed_sequence_used_is_not_found_on_disk_either() {
    let fake = FakeDisk::default();
    let fault = Fault { token: 59, kind: FaultKind::NotANumber, times: 0 };
    let toy = ToySettings { faults: vec![fault], vocabulary: 61, ..ToySettings::default() };
    let clean =
        |seed| -> Vec<TokenId> { tokens(seed, PROMPT).into_iter().map(|token| token.min(58)).collect() };
    let mut world = open_toy(toy.clone(), on_disk(&fake, 200));
    let ask = |world: &mut World, name: &str, prompt: Vec<TokenId>| {
        world.submit(Work { max_output_tokens: 1, ..work(name, prompt) });
        world.run();
        world.rest();
        world.answer(&key(name)).usage().cached_tokens
    };
    (0..4).for_each(|seed| assert_eq!(ask(&mut world, &format!("first {seed}"), clean(seed)), 0));
    // It finds what the first left, goes on with the token that spoils everything, and fails.
    assert_eq!(ask(&mut world, "spoilt", [clean(0), vec![59]].concat()), 320);
    assert_eq!(ask(&mut world, "again", clean(0)), 0);
    world.close();
    let mut world = open_toy(toy, on_disk(&fake, 200));
    assert_eq!(ask(&mut world, "others", clean(1)), 320);
    let spoilt_after_restart = ask(&mut world, "after a restart", clean(2));
    assert_eq!(spoilt_after_restart, 320);
}

#[test]
fn random_crowds_get_the_same_answers_with_a_disk_that_comes_and_goes() {
    let mut hits = 0;
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let toy = ToySettings { block_tokens: 4, context_tokens: 64, ..ToySettings::default() };
        let fake = FakeDisk::default();
        let blocks = random.between(16, 40);
        let slots = random.between(1, 100) as u64;
        let mut world = World::new(
            toy.clone(),
            EngineConfig { max_running: 4, kv: config(blocks).kv, ..on_disk(&fake, slots) },
        );
        let mut prompts = Vec::new();
        for number in 0..60 {
            let agent = random.between(1, 8) as u64;
            let count = random.between(5, 40);
            let prompt = tokens(agent, count);
            let tenant = Tenant::from(*random.pick(&["a", "b"]));
            world.submit(Work { tenant, ..work(&format!("w{number}"), prompt.clone()) });
            prompts.push(prompt);
            (0..random.between(0, 4)).for_each(|_| world.step());
            if random.once_in(4) {
                world.run();
                world.rest();
            }
            if random.once_in(8) {
                fake.trouble(Troubles {
                    is_full: random.once_in(3),
                    is_broken: random.once_in(3),
                    read_takes: Duration::from_micros(random.between(0, 800) as u64),
                    ..Troubles::default()
                });
            }
            if random.once_in(5) {
                world.sleep(REST);
            }
            if random.once_in(10) {
                fake.rot(random.between(0, 200));
            }
        }
        world.run();
        for (number, prompt) in prompts.iter().enumerate() {
            let answer = world.answer(&key(&format!("w{number}")));
            assert_eq!(answer.tokens, greedy_answer(prompt, 8, &[], 61), "seed {seed}, work {number}");
        }
        hits += disk(&world).hit_tokens;
    }
    assert!(hits > 100, "a disk that never serves shows nothing: {hits} tokens");
}
