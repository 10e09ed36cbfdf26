//! How costs grow with the rows.

use std::fmt::Write;
use std::path::Path;

use super::numbers::{median, short};
use super::plot::{Line, draw};
use super::{FOLIO, heading};
use crate::engine::Result;
use crate::load::{LOADS, Sizes};
use crate::run::{Found, Record};

/// Where this part of the page begins.
pub const HEADING: &str = "\n## Scale\n";
/// The plot, beside the page.
const PLOT: &str = "benchmarks-scale.svg";

/// Microseconds of processor time an operation; the median of the runs.
fn cost(records: &[Record], load: &str) -> Option<f64> {
    let costs: Vec<f64> = records
        .iter()
        .filter(|record| record.load == load && record.engine == FOLIO)
        .filter_map(|record| match &record.result {
            Found::Measured { outcome, .. } => {
                Some(outcome.processor * 1e6 / outcome.operations as f64)
            }
            Found::Failed(_) => None,
        })
        .collect();
    median(&costs)
}

/// Writes the plot, and puts the figures in the place of those that the page has.
pub fn write(page: &Path, scales: &[(f64, Vec<Record>)]) -> Result<()> {
    let rows = |scale: f64| Sizes::of(scale).rows as f64;
    let mut part = format!(
        "{HEADING}\nProcessor time of Folio, microseconds an operation, at several sizes; tables, logs, caches and the number of \
         commits grow together. The plot has it as multiples of the smallest size. Written by the same program with `scale`.\n\n\
         ![Cost an operation by the number of rows]({PLOT})\n\n"
    );
    let mut columns = vec!["load".to_owned()];
    columns.extend(
        scales
            .iter()
            .map(|(scale, _)| format!("{} rows", short(rows(*scale)))),
    );
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    heading(&mut part, &columns)?;
    let mut lines = Vec::new();
    for load in LOADS.iter().filter(|load| load.name != "open") {
        let costs: Option<Vec<(f64, f64)>> = scales
            .iter()
            .map(|(scale, records)| Some((rows(*scale), cost(records, load.name)?)))
            .collect();
        let Some(costs) = costs else {
            continue;
        };
        write!(part, "| {} |", load.title)?;
        for (_, cost) in &costs {
            write!(part, " {} |", short(*cost))?;
        }
        writeln!(part)?;
        if let Some((_, least)) = costs.first() {
            let points = costs.iter().map(|(rows, cost)| (*rows, cost / least));
            lines.push(Line {
                name: load.name.to_owned(),
                points: points.collect(),
            });
        }
    }
    let folder = page.parent().ok_or("the page is in no folder")?;
    std::fs::write(
        folder.join(PLOT),
        draw(&lines, "rows", "cost an operation, the smallest size is 1"),
    )?;
    super::replace(page, HEADING, &part)
}
