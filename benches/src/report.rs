//! Figures, and the table that they are shown in.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The middle value; 0 of nothing.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (None, _) => 0.0,
        (Some(value), 1) => *value,
        (Some(value), _) => {
            let before = middle.checked_sub(1).and_then(|index| sorted.get(index));
            before.map_or(*value, |before| f64::midpoint(*before, *value))
        }
    }
}

/// What one round of a scenario came to.
pub struct Round {
    /// Wall time.
    pub time: Duration,
    /// How many things were done.
    pub done: usize,
    /// CPU time of the servers.
    pub server_cpu: Duration,
    /// CPU time of the database's own processes.
    pub database_cpu: Duration,
    /// Time of each thing as the client saw it, in microseconds.
    pub latency: Histogram<u64>,
}

/// One line of the table: medians over the rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was done.
    pub scenario: String,
    /// Where the state was kept.
    pub database: String,
    /// Clients at once.
    pub clients: usize,
    /// Rounds.
    pub rounds: usize,
    /// Things done in one round.
    pub per_round: usize,
    /// Things done in a second, with the load generator on the same cores.
    pub per_second: f64,
    /// CPU time of our servers for one, in milliseconds.
    pub server_cpu_ms: f64,
    /// What one core of a server could do in a second.
    pub per_second_and_core: f64,
    /// CPU time of the database's processes for one, in milliseconds.
    pub database_cpu_ms: f64,
    /// Half of them were done within this, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 were done within this, in milliseconds.
    pub p99_ms: f64,
}

impl Row {
    /// Medians over the rounds.
    #[must_use]
    pub fn of(scenario: &str, database: &str, clients: usize, rounds: &[Round]) -> Self {
        let each =
            |figure: &dyn Fn(&Round) -> f64| median(&rounds.iter().map(figure).collect::<Vec<_>>());
        let count = |round: &Round| f64::from(u32::try_from(round.done.max(1)).unwrap_or(u32::MAX));
        let server_cpu_ms = each(&|round| round.server_cpu.as_secs_f64() * 1000.0 / count(round));
        let quantile = |quantile: f64| {
            each(&|round| {
                let micros = round.latency.value_at_quantile(quantile);
                f64::from(u32::try_from(micros).unwrap_or(u32::MAX)) / 1000.0
            })
        };
        Self {
            scenario: scenario.to_owned(),
            database: database.to_owned(),
            clients,
            rounds: rounds.len(),
            per_round: rounds.first().map_or(0, |round| round.done),
            per_second: each(&|round| count(round) / round.time.as_secs_f64()),
            server_cpu_ms,
            per_second_and_core: if server_cpu_ms > 0.0 {
                1000.0 / server_cpu_ms
            } else {
                0.0
            },
            database_cpu_ms: each(&|round| {
                round.database_cpu.as_secs_f64() * 1000.0 / count(round)
            }),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
        }
    }
}

/// Memory of one server with many idle connections.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// Which transport.
    pub transport: String,
    /// Connections.
    pub connections: usize,
    /// Growth of resident memory for each, in KiB.
    pub kib_per_connection: f64,
}

/// A server with a large register.
#[derive(Clone, Debug, Serialize)]
pub struct Start {
    /// Which server.
    pub server: String,
    /// Devices in its register.
    pub devices: usize,
    /// From the start of the program until it was ready, in milliseconds.
    pub ready_ms: f64,
    /// Resident memory then, in MiB.
    pub memory_mib: f64,
}

/// Everything that one run measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The raw rates of the same run.
    pub raw: crate::raw::Raw,
    /// Scenarios.
    pub rows: Vec<Row>,
    /// Idle connections.
    pub memory: Vec<Memory>,
    /// Starts.
    pub starts: Vec<Start>,
    /// Constrained devices.
    pub coaps: Option<crate::coaps::Figures>,
}

impl Report {
    /// As a table in Markdown.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "raw, one core: {:.0} P-256 signatures/s, {:.0} verifications/s, {:.0} mutual TLS 1.3 \
             handshakes/s (both ends), fsync of 4 KiB {:.2} ms\n\n",
            self.raw.p256_signs,
            self.raw.p256_verifies,
            self.raw.tls13_mutual_handshakes,
            self.raw.fsync_ms
        );
        text.push_str(
            "| scenario | database | clients | per second | server CPU ms each | per second and core | database CPU ms each | p50 ms | p99 ms |\n|---|---|---|---|---|---|---|---|---|\n",
        );
        let constrained = self.coaps.iter().flat_map(|figures| &figures.rows);
        for row in self.rows.iter().chain(constrained) {
            text.push_str(&format!(
                "| {} | {} | {} | {:.0} | {:.3} | {:.0} | {:.3} | {:.2} | {:.2} |\n",
                row.scenario,
                row.database,
                row.clients,
                row.per_second,
                row.server_cpu_ms,
                row.per_second_and_core,
                row.database_cpu_ms,
                row.p50_ms,
                row.p99_ms
            ));
        }
        if !self.memory.is_empty() {
            text.push_str("\n| idle connections | number | KiB each |\n|---|---|---|\n");
        }
        for memory in &self.memory {
            text.push_str(&format!(
                "| {} | {} | {:.1} |\n",
                memory.transport, memory.connections, memory.kib_per_connection
            ));
        }
        if let Some(coaps) = &self.coaps {
            text.push_str(&coaps.to_text());
        }
        if !self.starts.is_empty() {
            text.push_str(
                "\n| start | devices | ready after ms | memory MiB |\n|---|---|---|---|\n",
            );
        }
        for start in &self.starts {
            text.push_str(&format!(
                "| {} | {} | {:.0} | {:.1} |\n",
                start.server, start.devices, start.ready_ms, start.memory_mib
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0]) - 2.5).abs() < 1e-9);
        assert!(median(&[]).abs() < 1e-9);
    }
}
