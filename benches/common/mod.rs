//! What the benchmarks share.

use std::time::Duration;

use criterion::Criterion;

/// Settings under which a benchmark takes a second or two; options of the command line go before them.
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
        .configure_from_args()
}
