//! The command line: `kadnode`, and its subcommands, one file each.

mod args;
mod bench;
mod contacts;
mod enr;
mod failure;
mod logging;
mod lookup;
mod oneshot;
mod ping;
mod progress;
mod resolve;
mod run;
mod sim;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use self::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  kadnode                                              Join Ethereum's mainnet on UDP port 30303
  kadnode --bootnodes nodes.txt --listen 0.0.0.0:0     Join the network of nodes.txt on a free port
  kadnode ping enode://d860…f666@18.138.108.67:30303   Ask whether a node is there
  kadnode lookup d860…f666 --bootnodes nodes.txt       Find the nodes nearest to a key
  kadnode sim --nodes 1000 --lookups 1000              Count hops in a simulated network
  kadnode bench enode://1ef7…50a3@127.0.0.1:30301      Measure a node of one's own under load

Without a command, kadnode runs a node. While it runs, standard output holds exactly two lines: the node's enode URL and \
its record. The log goes to standard error. Exit codes: 0 success, 1 failure, 2 wrong usage or input.";

/// A discv4 discovery node of the Ethereum network, and tools to ask other nodes
#[derive(Debug, Parser)]
#[command(name = "kadnode", version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::Args,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Ping(ping::Args),
    Enr(enr::Args),
    Lookup(lookup::Args),
    Resolve(resolve::Args),
    Sim(Box<sim::Args>),
    Bench(Box<bench::Args>),
}

/// Runs the program: reads the command line, does what it says, and tells how it ended.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return failure::exit_for_usage(&error),
    };
    match dispatch(cli.command.unwrap_or(Command::Run(cli.run))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.exit(),
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => {
            args.log.start(logging::Default::Info);
            block_on(run::run(args))
        }
        Command::Ping(args) => {
            args.log.start(logging::Default::Warn);
            block_on(ping::run(args))
        }
        Command::Enr(args) => {
            args.log.start(logging::Default::Warn);
            block_on(enr::run(args))
        }
        Command::Lookup(args) => {
            args.log.start(logging::Default::Warn);
            block_on(lookup::run(args))
        }
        Command::Resolve(args) => {
            args.log.start(logging::Default::Warn);
            block_on(resolve::run(args))
        }
        Command::Sim(args) => {
            args.log.start(logging::Default::Warn);
            sim::run(&args)
        }
        Command::Bench(args) => {
            args.log.start(logging::Default::Warn);
            block_on(bench::run(*args))
        }
    }
}

fn block_on(future: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::runtime(format!("cannot start the runtime: {error}")))?;
    let result = runtime.block_on(future);
    // A DNS query that the system library is waiting for cannot be called off, and is not waited for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// Writes to standard output. That whoever reads it has gone away is no failure of ours.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::runtime(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// The form of a noun that goes with a number.
fn plural<'a>(count: u64, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
