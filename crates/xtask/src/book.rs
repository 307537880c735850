//! `cargo xtask book`: the book in `docs/book` as web pages.
//!
//! What its programs are worth is for the tests to tell; this makes pages of it.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::workspace;

const GET_IT: &str = "mdbook is not on the PATH; get it with: cargo install mdbook --locked";

/// Builds the book into `target/book`.
///
/// # Errors
///
/// When there is no mdbook, or it refuses the book.
#[allow(clippy::print_stdout, reason = "this is what the command says to its user")]
pub(crate) fn build() -> Result<()> {
    let mut mdbook = Command::new("mdbook");
    if mdbook.arg("--version").stdout(Stdio::null()).status().is_err() {
        bail!(GET_IT);
    }
    let pages = workspace::target_dir()?.join("book");
    let mut mdbook = Command::new("mdbook");
    mdbook.arg("build").arg(workspace::root().join("docs/book")).arg("--dest-dir").arg(&pages);
    if !mdbook.status()?.success() {
        bail!("mdbook could not build the book");
    }
    println!("{}", pages.join("index.html").display());
    Ok(())
}
