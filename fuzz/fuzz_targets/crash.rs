//! Operations with failing calls and power cuts among them; then the power is cut once more, at chosen moments of all that
//! happened.
//!
//! Run with `cargo +nightly fuzz run crash`.
#![no_main]

use folio_attacks::{
    choices::{Bytes, Choices},
    crash::check_chosen,
    model::State,
    script::{Shape, Step},
    world::{World, created},
};
use libfuzzer_sys::fuzz_target;

const MOST_STEPS: usize = 60;

fuzz_target!(|bytes: &[u8]| {
    // The last quarter chooses the moments.
    let (of_script, of_cuts) = bytes.split_at(bytes.len() - bytes.len() / 4);
    let mut choices = Bytes::new(of_script);
    let shape = Shape {
        faults: true,
        ..Shape::choose(&mut choices)
    };
    let image = created(shape.page_size);
    let cache = choices.below(64) as usize * shape.page_size;
    let context = "crash".to_owned();
    let mut world = World::new(&image, State::default(), shape, cache, true, context);
    for _ in 0..MOST_STEPS {
        if choices.is_over() {
            break;
        }
        world.step(&Step::choose(&shape, &mut choices));
    }
    let (lives, _) = world.finish();
    let of_cuts = &of_cuts[..of_cuts.len().min(64)];
    check_chosen(&lives, &mut Bytes::new(of_cuts), "crash");
});
