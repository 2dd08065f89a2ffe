//! The log, on standard error.

use std::io::{self, IsTerminal};

use clap::{ArgAction, Args, ValueEnum};
use tracing_subscriber::EnvFilter;

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
        let filter = match (self.verbose, self.quiet, default) {
            (0, 0, Default::Info) => "warn,kadnode=info",
            (0, 0 | 1, _) => "warn",
            (0, ..) => "error",
            (1, ..) => "warn,kadnode=debug",
            _ => "warn,kadnode=trace",
        };
        let log = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(filter))
            .with_writer(io::stderr)
            .with_target(false)
            // It would panic where standard error is closed.
            .log_internal_errors(false);
        match self.log_format {
            LogFormat::Json => {
                log.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
            }
            LogFormat::Text => {
                let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
                log.with_ansi(colour).init();
            }
        }
    }
}
