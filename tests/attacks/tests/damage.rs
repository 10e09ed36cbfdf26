//! Damaged files: see `folio_attacks::damage`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
};

use folio_attacks::{
    craft::{crafted_pages, crafted_slots, extremes},
    damage::{
        ENDINGS, Ending, FIXED_PAGES, Fixture, FlipAttack, examine, length, put, use_everything,
    },
};
use folio_store::storage::{MemoryStorage, SplitMix64, Storage};

fn fixtures() -> [Fixture; 3] {
    ENDINGS.map(|ending| Fixture::new(3, 4096, ending))
}

/// Damage must not make the process take memory for what is not there.
fn memory_is_bounded() {
    let Ok(status) = fs::read_to_string("/proc/self/status") else {
        println!("SKIPPED: the peak of memory is not known here");
        return;
    };
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kibibytes: u64 = line
        .and_then(|line| line.split_whitespace().nth(1))
        .and_then(|number| number.parse().ok())
        .unwrap();
    assert!(kibibytes < 1 << 20, "{kibibytes} KiB were in use");
}

#[test]
fn a_flipped_bit_is_harmless_or_named() {
    let figures = FlipAttack::short().run();
    println!("{figures}");
    assert!(figures.get("bits flipped") > 50_000, "{figures}");
    assert!(figures.get("of them told") > 10_000, "{figures}");
}

#[test]
fn a_fixed_page_with_an_extreme_field_never_shows_older_or_wrong_rows() {
    for fixture in fixtures() {
        extremes(&fixture, false, |image, what| {
            let _ = examine(image, &fixture, &|| what.clone());
        });
    }
    memory_is_bounded();
}

#[test]
fn a_file_cut_anywhere_is_refused_or_whole() {
    for fixture in fixtures() {
        let end = length(&fixture.image);
        let cuts = (0..fixture.pages()).map(|page| page * fixture.page_size);
        for cut in cuts.chain([1, 127, 128, 4_095, 4_097, 5 * 4096 + 512, end - 1]) {
            let image = fixture.image.clone();
            image.truncate(cut).unwrap();
            let _ = examine(image, &fixture, &|| format!("cut to {cut}"));
        }
    }
}

#[test]
fn a_page_that_is_not_the_right_one_is_noticed() {
    let [closed, killed, much] = fixtures();
    let mut told = 0;
    for (fixture, foreign) in [(&closed, &killed), (&killed, &much), (&much, &closed)] {
        let pages = fixture.pages();
        let mut random = SplitMix64::new(9);
        for page in 0..pages {
            let own = fixture.page(page);
            let other = random.below(pages);
            let mut others = vec![
                ("zeros".to_owned(), vec![0; own.len()]),
                ("ones".to_owned(), vec![0xFF; own.len()]),
                ("foreign".to_owned(), foreign.page(page)),
                (format!("page {other}"), fixture.page(other)),
                ("its neighbour".to_owned(), fixture.page(page + 1)),
            ];
            for sector in 0..8 {
                let mut torn = own.clone();
                torn[sector * 512..(sector + 1) * 512].fill(0);
                others.push((format!("sector {sector} zero"), torn));
            }
            for (age, older) in fixture.older.iter().enumerate() {
                let mut stale = vec![0; own.len()];
                if older.read_at(page * 4096, &mut stale).is_ok() {
                    let half = [&stale[..2048], &own[2048..]].concat();
                    others.push((format!("its version {age}"), stale));
                    others.push((format!("half of its version {age}"), half));
                }
            }
            for (name, bytes) in others {
                if bytes != own {
                    let image = fixture.with(page * 4096, &bytes);
                    let damage = || format!("page {page} replaced by {name}");
                    told += usize::from(!examine(image, fixture, &damage).errors.is_empty());
                }
            }
        }
    }
    assert!(told > 2_000, "{told}");
}

#[test]
fn swapped_pages_and_mixed_files_are_noticed() {
    let [closed, killed, _] = fixtures();
    let mut random = SplitMix64::new(5);
    let written = killed.written_pages();
    for _ in 0..2_000 {
        let mut pick = || match random.below(6) {
            0 => random.below(FIXED_PAGES),
            _ => written[random.below(written.len() as u64) as usize],
        };
        let (one, other) = (pick(), pick());
        let image = killed.with(one * 4096, &killed.page(other));
        put(&image, other * 4096, &killed.page(one));
        let _ = examine(image, &killed, &|| {
            format!("pages {one} and {other} swapped")
        });
    }
    for cut in 1..killed.pages() {
        let image = closed.with(0, &[]);
        for page in 0..cut {
            put(&image, page * 4096, &killed.page(page));
        }
        let damage = || format!("from page {cut} on of another file");
        let _ = examine(image, &killed, &damage);
    }
}

#[test]
fn bits_flipped_everywhere_never_make_a_wrong_row() {
    for fixture in fixtures() {
        let mut random = SplitMix64::new(8);
        let bits = fixture.pages() * 4096 * 8;
        for round in 0..1_500 {
            let image = fixture.image.clone();
            let magnitude = random.below(12);
            let many = 1 + random.below(1 << magnitude);
            for _ in 0..many {
                let bit = random.below(bits);
                let mut byte = [0];
                image.read_at(bit / 8, &mut byte).unwrap();
                put(&image, bit / 8, &[byte[0] ^ (1 << (bit % 8))]);
            }
            let _ = examine(image, &fixture, &|| format!("round {round}, {many} bits"));
        }
    }
}

/// Runs `attempt` and says what repeats a panic in it.
fn without_panic(what: &str, attempt: impl FnOnce()) {
    let outcome = catch_unwind(AssertUnwindSafe(attempt));
    assert!(outcome.is_ok(), "{what}");
}

#[test]
fn crafted_fixed_pages_with_right_checksums_never_panic() {
    for ending in ENDINGS {
        let fixture = Fixture::new(4, 4096, ending);
        extremes(&fixture, true, |image, what| {
            without_panic(&format!("{ending:?}, {what}"), || {
                use_everything(image, true, &mut SplitMix64::new(1));
            });
        });
        for seed in 0..1_500 {
            let mut random = SplitMix64::new(seed);
            let image = crafted_slots(&fixture, &mut random);
            without_panic(&format!("{ending:?}, seed {seed}"), || {
                use_everything(image, seed % 2 == 0, &mut random);
            });
        }
    }
    memory_is_bounded();
}

#[test]
fn crafted_pages_with_right_checksums_never_panic() {
    for ending in [Ending::Closed, Ending::KilledAfterMuch] {
        let fixture = Fixture::new(5, 4096, ending);
        for seed in 0..2_500 {
            let mut random = SplitMix64::new(seed);
            let image = crafted_pages(&fixture, &mut random);
            without_panic(&format!("{ending:?}, seed {seed}"), || {
                use_everything(image, seed % 2 == 0, &mut random);
            });
        }
    }
    memory_is_bounded();
}

#[test]
fn a_sound_file_is_right_and_nothing_is_told() {
    for page_size in [4096, 16384, 65536] {
        for ending in ENDINGS {
            let fixture = Fixture::new(6, page_size, ending);
            let image = MemoryStorage::clone(&fixture.image);
            let told = examine(image, &fixture, &|| "undamaged".into());
            assert!(told.errors.is_empty(), "{:?}", told.errors);
            assert!(fixture.right.rows() > 100);
        }
    }
}
