//! The load itself: many clients, each doing one thing after the other.

pub mod bootstrap;
pub mod connections;
pub mod enrolments;
pub mod forward;
pub mod pledges;
pub mod vouchers;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;

/// Longest latency that is told apart, in microseconds.
const LATENCY_MAX_MICROS: u64 = 1_800_000_000;

/// What the clients saw.
pub struct Seen {
    /// Wall time of all.
    pub time: Duration,
    /// Latency of each, in microseconds.
    pub latency: Histogram<u64>,
}

/// An empty histogram of microseconds with three digits.
///
/// # Errors
/// Never with these bounds; the histogram's constructor can.
pub fn histogram() -> anyhow::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, LATENCY_MAX_MICROS, 3).context("a histogram")
}

/// Hands the jobs `0..count` out to `clients` tasks. Each task keeps a state of its own, say a
/// connection, from one job to the next.
///
/// # Errors
/// The first error of a job; the load is then no measurement.
pub async fn spread<S, F, Fut>(clients: usize, count: usize, work: F) -> anyhow::Result<Seen>
where
    S: Default + Send + 'static,
    F: Fn(S, usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = anyhow::Result<S>> + Send,
{
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut tasks = Vec::with_capacity(clients);
    for _ in 0..clients {
        let (next, work) = (Arc::clone(&next), work.clone());
        tasks.push(tokio::spawn(async move {
            let mut latency = histogram()?;
            let mut state = S::default();
            loop {
                let job = next.fetch_add(1, Ordering::Relaxed);
                if job >= count {
                    return anyhow::Ok(latency);
                }
                let begun = Instant::now();
                state = work(state, job).await?;
                let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                latency.saturating_record(micros.max(1));
            }
        }));
    }
    let mut latency = histogram()?;
    for task in tasks {
        latency.add(task.await??)?;
    }
    Ok(Seen {
        time: started.elapsed(),
        latency,
    })
}
