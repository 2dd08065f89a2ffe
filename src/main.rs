//! The `kadnode` program.

fn main() -> std::process::ExitCode {
    kadnode::cli::main()
}
