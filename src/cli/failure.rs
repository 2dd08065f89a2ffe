//! How a command fails: a sentence on standard error, and an exit code.

use std::fmt::{self, Display};
use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;

/// Why a command ends without having done its work.
#[derive(Debug)]
pub(super) struct Failure {
    /// One sentence for each thing that is wrong.
    sentences: Vec<String>,
    /// Something that helps.
    note: Option<String>,
    code: u8,
}

impl Failure {
    /// Something went wrong: exit code 1.
    pub(super) fn runtime(sentence: impl Display) -> Self {
        Self { sentences: vec![sentence.to_string()], note: None, code: 1 }
    }

    /// What was given cannot be used: exit code 2.
    pub(super) fn input(sentence: impl Display) -> Self {
        Self { sentences: vec![sentence.to_string()], note: None, code: 2 }
    }

    /// Several things that were given cannot be used.
    pub(super) fn inputs(sentences: Vec<String>, note: String) -> Self {
        Self { sentences, note: Some(note), code: 2 }
    }

    /// Says it on standard error.
    pub(super) fn exit(self) -> ExitCode {
        let mut text = String::new();
        for sentence in &self.sentences {
            text += &format!("error: {sentence}\n");
        }
        if let Some(note) = self.note {
            text += &format!("note: {note}\n");
        }
        // Where standard error is closed there is nobody to tell.
        let _ = std::io::stderr().write_all(text.as_bytes());
        ExitCode::from(self.code)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentences.join("; "))
    }
}

/// Ends the program for what clap found on the command line: help and version are no errors; of an error the sentence
/// is shown, on one line, without the usage that would push it off the screen.
pub(super) fn exit_for_usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    Failure::input(sentence(&error.render().to_string())).exit()
}

/// Makes one sentence of clap's paragraphs: the error, then the tip if there is one.
fn sentence(rendered: &str) -> String {
    let mut words = String::new();
    for paragraph in rendered.split("\n\n") {
        let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        }
        let (separator, line) = match line.strip_prefix("tip: ") {
            Some(tip) => ("; ", tip),
            None => (" ", line.as_str()),
        };
        if !words.is_empty() {
            words += separator;
        }
        words += line;
    }
    let words = words.strip_prefix("error: ").unwrap_or(&words);
    // `kadnode -v ping …`: what clap says is true, and does not say what to do.
    let hint = if words.starts_with("the subcommand '") { "; options stand after the command" } else { "" };
    format!("{words}{hint} (see --help)")
}

#[cfg(test)]
mod tests {
    use super::sentence;

    #[test]
    fn an_error_of_clap_becomes_one_sentence() {
        let unknown = "error: unexpected argument '--bootnod' found\n\n  tip: a similar argument exists: '--bootnode'\n\n\
                       Usage: kadnode [OPTIONS]\n\nFor more information, try '--help'.\n";
        assert_eq!(
            sentence(unknown),
            "unexpected argument '--bootnod' found; a similar argument exists: '--bootnode' (see --help)"
        );
        let missing =
            "error: the following required arguments were not provided:\n  <CONTACT>\n\nUsage: kadnode ping\n";
        assert_eq!(sentence(missing), "the following required arguments were not provided: <CONTACT> (see --help)");
    }
}
