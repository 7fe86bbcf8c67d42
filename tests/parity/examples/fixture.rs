//! Writes the volume, model and mask that the tests of the command and of the hosts work on: `fixture DIR`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os().nth(1).ok_or("usage: fixture DIR")?;
    adaptmedseg_parity::write_fixture(folder.as_ref())
}
