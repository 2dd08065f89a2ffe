//! The log, on standard error.

use std::io::{self, IsTerminal};

use clap::{ArgAction, Args, ValueEnum};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Options of the log.
#[derive(Debug, Args)]
#[command(next_help_heading = "Log")]
pub(super) struct LogArgs {
    /// How to write the log: text for people, or one JSON object a line
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(super) log_format: LogFormat,
    /// Log more: -v nodes that come and go, and lookups; -vv also each packet that is dropped, and why
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Log less: -q warnings and errors; -qq errors only
    #[arg(short, long, action = ArgAction::Count)]
    quiet: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

/// What is logged without -v and -q.
#[derive(Clone, Copy, Debug)]
pub(super) enum Default {
    /// By a node that runs.
    Info,
    /// By a command that makes one request.
    Warn,
}

impl LogArgs {
    /// Begins to log. Times are in UTC.
    pub(super) fn start(&self, default: Default) {
        // Other crates are heard only when they have something to worry about.
        let (others, own) = match (self.verbose, self.quiet, default) {
            (0, 0, Default::Info) => (LevelFilter::WARN, LevelFilter::INFO),
            (0, 0 | 1, _) => (LevelFilter::WARN, LevelFilter::WARN),
            (0, ..) => (LevelFilter::ERROR, LevelFilter::ERROR),
            (1, ..) => (LevelFilter::WARN, LevelFilter::DEBUG),
            _ => (LevelFilter::WARN, LevelFilter::TRACE),
        };
        let filter = Targets::new().with_default(others).with_target("kadnode", own);
        let log = tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_target(false)
            // It would panic where standard error is closed.
            .log_internal_errors(false);
        let log = match self.log_format {
            LogFormat::Json => log.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
            LogFormat::Text => {
                let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
                log.with_ansi(colour).boxed()
            }
        };
        tracing_subscriber::registry().with(log.with_filter(filter)).init();
    }
}
