//! `usher-conformance`: everything is in the library, so that tests reach it.

fn main() -> std::process::ExitCode {
    usher_conformance::cli::main()
}
