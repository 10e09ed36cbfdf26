//! A sound file in which fields of the header, the slots and the acknowledgement are changed and the checksums made right
//! again: whatever they say, using it gives data or errors.
//!
//! Run with `cargo +nightly fuzz run slot`.
#![no_main]

use std::sync::OnceLock;

use folio_attacks::{
    choices::{Bytes, Choices},
    craft::crafted_slots,
    damage::{ENDINGS, Fixture, use_everything},
};
use libfuzzer_sys::fuzz_target;

fn fixtures() -> &'static [Fixture; 3] {
    static FIXTURES: OnceLock<[Fixture; 3]> = OnceLock::new();
    FIXTURES.get_or_init(|| ENDINGS.map(|ending| Fixture::new(1, 4096, ending)))
}

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Bytes::new(bytes);
    let fixture = &fixtures()[choices.below(3) as usize];
    let image = crafted_slots(fixture, &mut choices);
    let accept_loss = choices.one_in(2);
    use_everything(image, accept_loss, &mut choices);
});
