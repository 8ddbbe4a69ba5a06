//! `edgelogger-collector`.

fn main() -> std::process::ExitCode {
    edgelogger_collector::cli::main()
}
