//! The `adaptmedseg` command. It turns arguments into calls of `adaptmedseg-segment`, and results into files.
//!
//! Exit codes are documented in `--help` and listed in [`failure::Code`].

mod adapter;
mod args;
mod bench;
mod demo;
mod evaluate;
mod failure;
mod finetune;
mod import;
mod info;
mod interrupt;
mod outputs;
mod overlay;
mod phantom;
mod prepare;
mod pretrain;
mod progress;
mod report;
mod segment;

use args::{Arguments, Command};
use clap::Parser;
use failure::{Failure, Result};
use std::io::{ErrorKind, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

fn main() -> ExitCode {
    // `parse` ends the process with code 2 and clap's own message where the arguments make no sense.
    let arguments = Arguments::parse();
    // The message alone: a user can do nothing with a backtrace, and the exit code says that it is our mistake.
    std::panic::set_hook(Box::new(|panic| eprintln!("error: internal error: {panic}")));
    let outcome = catch_unwind(AssertUnwindSafe(|| run(arguments)));
    interrupt::remove_temporaries();
    match outcome {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            eprint!("{failure}");
            failure.code.into()
        }
        Err(_) => {
            eprintln!("  hint: this is a mistake in adaptmedseg; please report it with the command that led here");
            failure::Code::Internal.into()
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    interrupt::install()?;
    match arguments.command {
        Command::Bench(args) => bench::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Segment(args) => segment::run(&args),
        Command::Prepare(args) => prepare::run(&args),
        Command::Finetune(args) => finetune::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Pretrain(args) => pretrain::run(&args),
        Command::Phantom(args) => phantom::run(&args),
        Command::Adapter(args) => adapter::run(&args),
        Command::Overlay(args) => overlay::run(&args),
    }
}

/// Prints to standard output. A reader that has gone away (`| head`) is no error.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::io(format!("standard output: {error}"), None))
        }
        _ => Ok(()),
    }
}
