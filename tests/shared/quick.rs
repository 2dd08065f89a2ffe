//! Settings for tests in real time.

use std::time::Duration;

use kadnode::proto::config::Config;

/// Checks that follow one another quickly, so that a dead node is soon known to be one.
pub(crate) fn quick() -> Config {
    let mut config = Config::default();
    config.requests.timeout = Duration::from_millis(500);
    config.table.first_check = Duration::from_millis(100);
    config.table.min_check = Duration::from_millis(200);
    config.table.max_check = Duration::from_millis(400);
    config.table.check_pace = Duration::from_millis(50);
    config.table.retry_check = Duration::from_millis(50);
    config
}
