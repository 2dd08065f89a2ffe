//! A progress bar on standard error, for work that takes long.

use std::io::{IsTerminal, stderr};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar that appears after two seconds and is gone when it is dropped. It appears on a terminal only.
pub(super) struct Progress {
    bar: ProgressBar,
    /// Waits for the two seconds to be over, since the work may say nothing for longer than that.
    waiting: Option<(Sender<()>, JoinHandle<()>)>,
}

/// Work that is shorter has no bar.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often the bar is drawn anew, so that its clock runs while the work says nothing.
const TICK: Duration = Duration::from_millis(250);

/// Steps of the bar.
const STEPS: u64 = 1000;

impl Progress {
    /// Begins to wait.
    pub(super) fn start() -> Self {
        let bar = ProgressBar::with_draw_target(Some(STEPS), ProgressDrawTarget::hidden());
        if !stderr().is_terminal() {
            return Self { bar, waiting: None };
        }
        let style = ProgressStyle::with_template("{msg:>8} [{bar:40}] {percent:>3} %  {elapsed_precise}");
        bar.set_style(style.expect("the template is well-formed").progress_chars("=> "));
        let (done, wait) = channel();
        let later = bar.clone();
        let thread = std::thread::spawn(move || {
            if wait.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                later.set_draw_target(ProgressDrawTarget::stderr());
                later.enable_steady_tick(TICK);
            }
        });
        Self { bar, waiting: Some((done, thread)) }
    }

    /// Notes what is being done, and from 0 to 1 how far it is.
    pub(super) fn set(&self, what: &'static str, share: f64) {
        if self.waiting.is_some() {
            if self.bar.message() != what {
                self.bar.set_message(what);
            }
            self.bar.set_position((share * STEPS as f64) as u64);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((done, thread)) = self.waiting.take() {
            drop(done);
            // It does not panic, and if it did, there would be no bar.
            let _ = thread.join();
            self.bar.finish_and_clear();
        }
    }
}
