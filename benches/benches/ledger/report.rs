//! The figures as tables.

use std::{fmt::Write as _, time::Duration};

use super::{Options, measure::Scale, time::Time};

/// Shows the figures of some sizes.
pub fn show<'s>(scales: impl Iterator<Item = &'s Scale>) {
    for scale in scales {
        print!("{}", section(scale));
    }
}

/// The whole document.
pub fn document(options: &Options, scales: &[Scale]) -> String {
    let sizes: Vec<_> = scales.iter().map(|scale| scale.items.to_string()).collect();
    let mut text = format!(
        "# The ledger, measured\n\n\
         Made by `cargo bench -p folio-benches --bench ledger -- --write docs/ledger-benchmarks.md` with `--scale {}`{}, {} rounds, with a cache \
         of {} MiB. One node, one thread, one file; a log entry holds one transaction and is committed on its own, which is \
         not durable by itself, and a checkpoint makes durable what a round has changed. An *item* is an entity or a \
         relationship; hashes, pages and checkpoints are for each operation. The load and what \"without roots\" is are described at the heads of \
         `benches/benches/ledger/load.rs` and `unproved.rs`; both take turns in one process, and the figures are medians. Times are {}.\n",
        sizes.join(","),
        match options.time {
            Time::Passed => "",
            Time::Processor => " and `--time processor`",
        },
        options.rounds,
        options.cache >> 20,
        match options.time {
            Time::Passed => "those that passed",
            Time::Processor => "those that the thread ran: the machine did other work beside",
        }
    );
    for scale in scales {
        text.push('\n');
        text.push_str(&section(scale));
    }
    text
}

fn section(scale: &Scale) -> String {
    let mut text = format!(
        "## {} items\n\n\
         Filled at {:.0} operations a second, checkpoints included. The commitments take {} rows and {:.1} MB of a file of {:.1} \
         MB.\n\n\
         | operations a transaction | applied a second | us an operation | without roots | price of roots | hashes | without \
         roots | pages written | without roots | checkpoint, us | without roots |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
        scale.items,
        scale.filled,
        scale.commitments.0,
        megabytes(scale.commitments.1),
        megabytes(scale.file)
    );
    for batch in &scale.batches {
        let (with, without) = (batch.with_roots, batch.without);
        let seconds = with.apply.as_secs_f64();
        let price = 1.0 - without.apply.as_secs_f64() / seconds;
        writeln!(
            text,
            "| {} | {:.0} | {:.1} | {:.1} | {:.0} % | {:.1} | {:.1} | {:.2} | {:.2} | {:.1} | {:.1} |",
            batch.operations,
            1.0 / seconds,
            micros(with.apply),
            micros(without.apply),
            price * 100.0,
            with.hashes,
            without.hashes,
            with.pages,
            without.pages,
            micros(with.checkpoint),
            micros(without.checkpoint)
        )
        .expect("a string grows");
    }
    let (reads, proofs) = (&scale.reads, &scale.proofs);
    write!(
        text,
        "\n\
         | | us |\n|---|---|\n\
         | read an entity | {:.2} |\n\
         | ask for a relationship | {:.2} |\n\
         | list entities, each | {:.2} |\n\
         | build a proof | {:.2} |\n\
         | verify one | {:.2} |\n\n\
         A proof has {:.0} bytes in the mean of {} and {} at most.\n",
        micros(reads.entity),
        micros(reads.relationship),
        micros(reads.listed),
        micros(proofs.build),
        micros(proofs.verify),
        proofs.mean_bytes,
        proofs.counted,
        proofs.most_bytes
    )
    .expect("a string grows");
    text
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
