//! Operations on the engine beside its model: tables in several groups, tickets, views, kills, closes; no accident of the
//! disk.
//!
//! Run with `cargo +nightly fuzz run operations`.
#![no_main]

use folio_attacks::{
    choices::{Bytes, Choices},
    model::State,
    script::{Shape, Step},
    world::{World, created},
};
use libfuzzer_sys::fuzz_target;

/// Longer scripts find nothing that two shorter ones do not.
const MOST_STEPS: usize = 100;

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Bytes::new(bytes);
    let shape = Shape {
        power_cuts: false,
        ..Shape::choose(&mut choices)
    };
    let image = created(shape.page_size);
    let cache = choices.below(64) as usize * shape.page_size;
    let context = "operations".to_owned();
    let mut world = World::new(&image, State::default(), shape, cache, false, context);
    for _ in 0..MOST_STEPS {
        if choices.is_over() {
            break;
        }
        world.step(&Step::choose(&shape, &mut choices));
    }
    let _ = world.finish();
});
