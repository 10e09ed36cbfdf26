//! `GET /metrics`: the node's counters in the text format of Prometheus.

use std::fmt::Write;
use std::time::SystemTime;

use axum::extract::State;
use folio_raft::transport::Tls;
use folio_raft::{Histogram, Metrics, Role, Status};

use super::Api;
use super::openapi::Text;
use super::problem::Problem;
use crate::feeds::Feeds;

pub(super) async fn metrics(State(api): State<Api>) -> Result<Text, Problem> {
    let ledger = api.node.ledger();
    let mut text = render(&ledger.status(), &ledger.metrics()?);
    text += &feeds(api.node.feeds());
    text += &diverged(api.node.divergences().len() as u64);
    if let Some(outdated) = api.access.outdated() {
        text += &clients(outdated);
    }
    if let Some(expires) = api.node.tls().and_then(Tls::expires) {
        text += &certificate(expires);
    }
    Ok(Text(text))
}

fn feeds(feeds: &Feeds) -> String {
    let mut page = Page::default();
    page.gauge("folio_feeds", "Feeds that clients follow.", feeds.open());
    page.counter(
        "folio_feed_events_total",
        "Events handed to clients of feeds.",
        feeds.events(),
    );
    page.text
}

fn diverged(vaults: u64) -> String {
    let mut page = Page::default();
    page.gauge(
        "folio_vaults_diverged",
        "Vaults that are not served because they are not those of other nodes.",
        vaults,
    );
    page.text
}

fn clients(outdated: bool) -> String {
    let mut page = Page::default();
    page.gauge(
        "folio_clients_outdated",
        "1 if the file of clients cannot be used, and those from before are kept.",
        outdated.into(),
    );
    page.text
}

fn certificate(expires: SystemTime) -> String {
    let mut page = Page::default();
    let since_epoch = expires.duration_since(SystemTime::UNIX_EPOCH);
    page.gauge(
        "folio_certificate_expiry_seconds",
        "When the certificate of this node expires, in seconds since 1970.",
        since_epoch.map_or(0, |time| time.as_secs()),
    );
    page.text
}

fn render(status: &Status, metrics: &Metrics) -> String {
    let mut page = Page::default();
    page.gauge(
        "folio_leader",
        "1 if this node leads.",
        u64::from(status.role == Role::Leader),
    );
    page.gauge(
        "folio_term",
        "The newest term this node has seen.",
        status.term,
    );
    for (name, help, index) in [
        (
            "folio_log_last_index",
            "Index of the last entry in the log.",
            status.last_log,
        ),
        (
            "folio_applied_index",
            "Index of the last entry applied.",
            status.applied,
        ),
        (
            "folio_checkpointed_index",
            "Index of the last entry whose effect is durable in the tables.",
            status.checkpointed,
        ),
        (
            "folio_purged_index",
            "Index up to which the log is gone.",
            status.purged,
        ),
    ] {
        page.gauge(name, help, index.unwrap_or(0));
    }
    page.gauge(
        "folio_disk_full",
        "1 if this node takes no writes because its disk is full or nearly so.",
        u64::from(status.disk_full.is_some()),
    );
    page.gauge(
        "folio_writes_waiting",
        "Writes that wait to be proposed.",
        metrics.writes_waiting,
    );
    page.counter(
        "folio_writes_refused_total",
        "Writes refused because too many were waiting.",
        metrics.writes_refused,
    );
    for (name, help, histogram) in [
        (
            "folio_batch_commands",
            "Commands in each entry proposed here.",
            &metrics.batch_commands,
        ),
        (
            "folio_append_entries",
            "Entries in each append to the log.",
            &metrics.append_entries,
        ),
        (
            "folio_apply_entries",
            "Entries applied in one call.",
            &metrics.apply_entries,
        ),
    ] {
        page.histogram(name, help, histogram, 1.0);
    }
    for (name, help, histogram) in [
        (
            "folio_commit_seconds",
            "From the proposal of an entry to its answer.",
            &metrics.commit_micros,
        ),
        (
            "folio_append_seconds",
            "Appends, their flush included.",
            &metrics.append_micros,
        ),
        (
            "folio_apply_seconds",
            "Calls that apply entries.",
            &metrics.apply_micros,
        ),
    ] {
        page.histogram(name, help, histogram, 1e-6);
    }
    for (name, help, value) in [
        (
            "folio_snapshot_sent_bytes_total",
            "Bytes of snapshots that others have acknowledged.",
            metrics.snapshot_bytes_sent,
        ),
        (
            "folio_snapshot_received_bytes_total",
            "Bytes of snapshots taken from others.",
            metrics.snapshot_bytes_received,
        ),
        (
            "folio_snapshots_installed_total",
            "Snapshots installed.",
            metrics.snapshots_installed,
        ),
        (
            "folio_fdatasyncs_total",
            "Calls of fdatasync.",
            metrics.engine.syncs,
        ),
        (
            "folio_bytes_written_total",
            "Bytes written to the file.",
            metrics.engine.bytes_written,
        ),
        (
            "folio_cache_hits_total",
            "Pages found in the cache.",
            metrics.engine.cache_hits,
        ),
        (
            "folio_cache_misses_total",
            "Pages read from the file.",
            metrics.engine.cache_misses,
        ),
    ] {
        page.counter(name, help, value);
    }
    let lags = metrics
        .peers
        .iter()
        .filter_map(|(id, peer)| Some((id, peer.lag?)));
    page.head(
        "folio_peer_lag_entries",
        "Entries a peer is not known to have.",
        "gauge",
    );
    for (id, lag) in lags {
        page.line(format_args!(
            "folio_peer_lag_entries{{peer=\"{id}\"}} {lag}"
        ));
    }
    page.head(
        "folio_peer_silence_seconds",
        "How long ago a peer last answered.",
        "gauge",
    );
    for (id, silence) in metrics
        .peers
        .iter()
        .filter_map(|(id, peer)| Some((id, peer.silence?)))
    {
        let seconds = silence.as_secs_f64();
        page.line(format_args!(
            "folio_peer_silence_seconds{{peer=\"{id}\"}} {seconds}"
        ));
    }
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "gauge");
        self.line(format_args!("{name} {value}"));
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "counter");
        self.line(format_args!("{name} {value}"));
    }

    /// `unit` is what one stands for in the histogram.
    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram, unit: f64) {
        self.head(name, help, "histogram");
        let mut below = 0;
        let bounded = histogram.classes.len() - 1;
        for (class, number) in histogram.classes[..bounded].iter().enumerate() {
            below += number;
            // Values are integers: less than 2^n is up to 2^n - 1.
            let bound = ((1u64 << class) - 1) as f64 * unit;
            self.line(format_args!("{name}_bucket{{le=\"{bound}\"}} {below}"));
        }
        let count = histogram.count();
        self.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {count}"));
        self.line(format_args!("{name}_sum {}", histogram.sum as f64 * unit));
        self.line(format_args!("{name}_count {count}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_rendered_with_growing_buckets_that_end_in_the_count() {
        let mut histogram = Histogram::default();
        histogram.classes[0] = 1;
        histogram.classes[2] = 2;
        histogram.classes[23] = 1;
        histogram.sum = 5_000_005;
        let mut page = Page::default();
        page.histogram("x", "Help.", &histogram, 1e-6);
        for line in [
            "# TYPE x histogram",
            "x_bucket{le=\"0\"} 1",
            "x_bucket{le=\"0.000001\"} 1",
            "x_bucket{le=\"0.000003\"} 3",
            "x_bucket{le=\"4.194303\"} 3",
            "x_bucket{le=\"+Inf\"} 4",
            "x_sum 5.000005",
            "x_count 4",
        ] {
            assert!(
                page.text.lines().any(|found| found == line),
                "{line} in {}",
                page.text
            );
        }
    }
}
