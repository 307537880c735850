//! The workspace on disk, and cargo as the tool that builds it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Version of every crate of the workspace, this one included.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The directory of the workspace's `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    // As cargo tells when it runs this program. What it told when it compiled it is another
    // checkout, if several share one target directory.
    let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest_dir.ancestors().nth(2).unwrap_or(&manifest_dir).to_path_buf()
}

/// The cargo that runs this program, to be run in the workspace.
pub(crate) fn cargo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    command
}

/// The command as somebody would type it.
pub(crate) fn spell(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or(program.as_os_str()).to_string_lossy()];
    words.extend(command.get_args().map(OsStr::to_string_lossy));
    words.join(" ")
}

/// Where cargo puts what it builds, whatever the environment and configuration say.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let output = cargo(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cannot read `cargo metadata`")?;
    let target_dir = metadata["target_directory"].as_str();
    target_dir.map(PathBuf::from).context("`cargo metadata` names no target directory")
}

/// The command that builds a package for release.
pub(crate) fn release(package: &str) -> Command {
    cargo(["build", "--release", "--package", package])
}

/// The command that builds the C library for release with its hooks for the sanitizers: in a
/// folder of its own, for the library with them and that without would throw each other out.
pub(crate) fn release_with_sanitizers() -> Result<Command> {
    let mut command = release("shmheap-c");
    command.args(["--features", "sanitizers", "--target-dir"]);
    command.arg(target_dir()?.join("sanitizers"));
    Ok(command)
}

/// Runs a command that builds a package, and returns every file that came of its own targets.
pub(crate) fn build(package: &str, mut command: Command) -> Result<Vec<PathBuf>> {
    command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let output = command.output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("`{}` failed ({}); its messages are above", spell(&command), output.status);
    }
    let manifest = root().join("crates").join(package).join("Cargo.toml");
    let messages = String::from_utf8(output.stdout).context("cargo's messages are not UTF-8")?;
    Ok(messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|message| is_artifact_of(message, &manifest))
        .flat_map(|message| paths(&message["filenames"]))
        .collect())
}

fn is_artifact_of(message: &serde_json::Value, manifest: &Path) -> bool {
    message["reason"] == "compiler-artifact"
        && message["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest)
}

fn paths(list: &serde_json::Value) -> Vec<PathBuf> {
    let names = list.as_array().map(Vec::as_slice).unwrap_or_default();
    names.iter().filter_map(|name| name.as_str().map(PathBuf::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_the_workspace() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[workspace]"));
    }

    #[test]
    fn a_command_is_spelt_as_typed() {
        let command = cargo(["test", "--workspace"]);
        assert_eq!(spell(&command), "cargo test --workspace");
    }

    #[test]
    fn only_the_packages_own_artifacts_count() {
        let message: serde_json::Value = serde_json::from_str(
            r#"{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml",
                "filenames":["/t/liba.so","/t/liba.a"]}"#,
        )
        .unwrap();
        assert!(is_artifact_of(&message, Path::new("/w/a/Cargo.toml")));
        assert!(!is_artifact_of(&message, Path::new("/w/b/Cargo.toml")));
        assert_eq!(paths(&message["filenames"]).len(), 2);
    }
}
