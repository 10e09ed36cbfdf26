//! The page of results, written by the program from what it measured.

use std::fmt::Write;
use std::path::Path;

use super::{CLIENTS, Clusters, Record, System, cluster};
use crate::engine::Result;
use crate::report::{machine, numbers};
use numbers::{median, short, spread};

const MIB: f64 = 1048576.0;

pub fn tell(record: &Record) {
    print!("{} {:32}", record.round, record.system.title());
    for (clients, load) in CLIENTS.iter().zip(&record.loads) {
        print!(
            "  {clients:2} clients {:>7.0}/s  median {:7.3} ms  99% {:7.3} ms  syncs {:5.2}",
            load.rate,
            load.median * 1e3,
            load.tail * 1e3,
            load.syncs.unwrap_or(f64::NAN),
        );
    }
    let limit = record.limit;
    println!(
        "  {:.0} MiB  sync {:.3} ms, round trip {:.3} ms",
        record.memory as f64 / MIB,
        limit.sync * 1e3,
        limit.round_trip * 1e3
    );
}

/// What Folio is meant to reach, with a quantity of a round.
struct Goal {
    title: &'static str,
    ratio: fn(&Round) -> Option<f64>,
    at_least: f64,
}

const GOALS: &[Goal] = &[
    Goal {
        title: "64 clients, to one client",
        ratio: |round| Some(round.rate(System::Folio, 1)? / round.rate(System::Folio, 0)?),
        at_least: 10.0,
    },
    Goal {
        title: "64 clients, to openraft-rocksstore made durable",
        ratio: |round| Some(round.rate(System::Folio, 1)? / round.rate(System::Rocksstore, 1)?),
        at_least: 2.0,
    },
    Goal {
        title: "one client, to openraft-rocksstore made durable",
        ratio: |round| Some(round.rate(System::Folio, 0)? / round.rate(System::Rocksstore, 0)?),
        at_least: 2.0,
    },
    Goal {
        title: "64 clients, to etcd",
        ratio: |round| Some(round.rate(System::Folio, 1)? / round.rate(System::Etcd, 1)?),
        at_least: 1.0,
    },
    Goal {
        title: "one client, to etcd",
        ratio: |round| Some(round.rate(System::Folio, 0)? / round.rate(System::Etcd, 0)?),
        at_least: 1.0,
    },
    Goal {
        title: "two syncs and a round trip, to the median wait of one client",
        ratio: |round| {
            let record = round.find(System::Folio)?;
            Some(record.limit.sum() / record.loads[0].median)
        },
        at_least: 1.0 / 1.5,
    },
];

/// The records of one round.
struct Round<'r>(Vec<&'r Record>);

impl Round<'_> {
    fn find(&self, system: System) -> Option<&Record> {
        self.0
            .iter()
            .copied()
            .find(|record| record.system == system)
    }

    fn rate(&self, system: System, load: usize) -> Option<f64> {
        Some(self.find(system)?.loads[load].rate)
    }
}

pub fn page(
    records: &[Record],
    systems: &[System],
    asked: &Clusters,
    data: &Path,
) -> Result<String> {
    let mut page = String::from(
        "# Clusters\n\nDurable writes of clusters of three nodes, side by side. This page is written by the program that measures \
         (`etcd-server` and `redis-server` are Debian's packages; without them, and without the features, those lines are left out):\n\n\
         ```sh\n\
         cargo build --release --manifest-path benches/compare/Cargo.toml --features storage-v2 --target-dir target/newer\n\
         cargo run --release --manifest-path benches/compare/Cargo.toml --features rocksstore -- \\\n    \
         clusters --newer target/newer/release/folio-compare --report docs/clusters.md\n```\n\n",
    );
    writeln!(
        page,
        "Measured on {}, {}. Each node is a process, all on one machine over loopback, and so are the clients: what they take of the \
         processors is missing to the cluster. A client has a connection to the leader and waits for each answer; keys are random, values are \
         150 bytes. The systems take turns, {} rounds of {} s for each load, each in an empty folder. Figures are medians over the rounds, `±` is \
         the distance of the farthest. Each client reads back what it wrote last. Syncs are calls of `fsync`, `fdatasync` and the like, of each node \
         for each write, counted under strace in a run of its own.\n",
        machine::machine(data),
        machine::commit(),
        asked.rounds,
        asked.seconds,
    )?;
    page.push_str("| system | version and settings |\n| --- | --- |\n");
    for system in systems {
        writeln!(page, "| {} | {} |", system.title(), settings(*system)?)?;
    }
    for (load, clients) in CLIENTS.iter().enumerate() {
        let plural = if *clients == 1 { "client" } else { "clients" };
        write!(
            page,
            "\n## {clients} {plural}\n\n| system | writes a second | median wait, ms | 99th percentile, ms | syncs a write |{}\n| --- | --- | --- | --- | --- |{}\n",
            if load == 1 {
                " memory of the leader, MiB |"
            } else {
                ""
            },
            if load == 1 { " --- |" } else { "" },
        )?;
        for system in systems {
            let of = |value: fn(&super::Measured) -> f64| -> Vec<f64> {
                let own = records.iter().filter(|record| record.system == *system);
                own.map(|record| value(&record.loads[load])).collect()
            };
            write!(
                page,
                "| {} | {} | {} | {} | {} |",
                system.title(),
                figure(&of(|load| load.rate)),
                figure(&of(|load| load.median * 1e3)),
                figure(&of(|load| load.tail * 1e3)),
                median(&of(|load| load.syncs.unwrap_or(f64::NAN))).map_or_else(String::new, short),
            )?;
            if load == 1 {
                let own = records.iter().filter(|record| record.system == *system);
                let memory: Vec<f64> = own.map(|record| record.memory as f64 / MIB).collect();
                write!(
                    page,
                    " {} |",
                    median(&memory).map_or_else(String::new, short)
                )?;
            }
            page.push('\n');
        }
    }
    page.push_str(
        "\n## Goals\n\nHow many times as fast Folio is as what it is compared with, and was meant to be: the median, and the lowest and highest of the \
         rounds. A goal is open where some rounds reach it and others do not.\n\n| Folio | ratio | rounds | goal |  |\n| --- | --- | --- | --- | --- |\n",
    );
    let rounds: Vec<Round> = (0..asked.rounds)
        .map(|number| {
            Round(
                records
                    .iter()
                    .filter(|record| record.round == number)
                    .collect(),
            )
        })
        .collect();
    for goal in GOALS {
        let ratios: Vec<f64> = rounds.iter().filter_map(goal.ratio).collect();
        let Some(middle) = median(&ratios) else {
            continue;
        };
        let lowest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = ratios.iter().copied().fold(0.0, f64::max);
        let verdict = if lowest >= goal.at_least {
            "met"
        } else if highest < goal.at_least {
            "**not met**"
        } else {
            "open"
        };
        writeln!(
            page,
            "| {} | {middle:.2} | {lowest:.2} to {highest:.2} | {:.2} | {verdict} |",
            goal.title, goal.at_least
        )?;
    }
    let of = |value: fn(&Record) -> f64| -> Vec<f64> { records.iter().map(value).collect() };
    writeln!(
        page,
        "\nIn the same run, before each cluster: a page written and synced {} ms ({}), a round trip over loopback between two threads {} ms ({}).",
        short(median(&of(|record| record.limit.sync * 1e3)).unwrap_or_default()),
        far(&of(|record| record.limit.sync)),
        short(median(&of(|record| record.limit.round_trip * 1e3)).unwrap_or_default()),
        far(&of(|record| record.limit.round_trip)),
    )?;
    Ok(page)
}

fn far(values: &[f64]) -> String {
    format!("±{:.0}%", spread(values).unwrap_or_default() * 100.0)
}

fn figure(values: &[f64]) -> String {
    let middle = median(values).map_or_else(String::new, short);
    format!("{middle} {}", far(values))
}

fn settings(system: System) -> Result<String> {
    Ok(match system {
        System::Folio => {
            "`ReplicatedDatabase` over TCP, as it comes; rows in the file, recoverable from the log"
                .to_owned()
        }
        System::FolioNewer => "the same, built with the feature".to_owned(),
        System::FolioMap => {
            "the same, rows in a map that a restart would lose: what applying to the file costs"
                .to_owned()
        }
        System::Rocksstore => format!(
            "openraft {}, openraft-rocksstore {}, with a sync added after each append and each vote (it has one when it applies, \
             and none of these); TCP, messages in postcard; times and limits as Folio's",
            machine::version("openraft"),
            machine::version("openraft-rocksstore"),
        ),
        System::Etcd => format!("{}, as it comes; gRPC", cluster::version("etcd")?),
        System::Redis => format!(
            "{}; **no replication**, `appendfsync always`, no snapshots: one process, so it does a third of the others' work and no consensus",
            cluster::version("redis-server")?
                .split(" sha")
                .next()
                .unwrap_or_default()
        ),
    })
}
