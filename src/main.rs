//! Parses the command line, runs the command, turns an error into an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use communication_service::command::CommandLine;
use communication_service::error::Chain;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match CommandLine::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", Chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}
