//! `top` under a pseudo-terminal: what a user sees, and how the terminal is afterwards.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::support::{Name, Peer, command, fail, run, succeed};

const PATIENCE: Duration = Duration::from_secs(60);
const ENTER_SCREEN: &str = "\u{1b}[?1049h";
const LEAVE_SCREEN: &str = "\u{1b}[?1049l";

/// The command in a terminal of 80 columns and 24 lines.
struct Session {
    process: Child,
    keys: File,
    /// Our own look at its end of the terminal.
    terminal: File,
    output: Receiver<Vec<u8>>,
    seen: String,
}

impl Session {
    fn start(arguments: &[&str]) -> Self {
        let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&main).unwrap();
        unlockpt(&main).unwrap();
        let path = ptsname(&main, vec![]).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let terminal = File::from(rustix::fs::open(path, flags, Mode::empty()).unwrap());
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).unwrap();
        let end = || Stdio::from(terminal.try_clone().unwrap());
        let process = command(arguments)
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .env("TERM", "xterm-256color")
            .spawn()
            .unwrap();
        let keys = File::from(main);
        let mut reader = keys.try_clone().unwrap();
        let (sender, output) = mpsc::channel();
        // Ends with an error when nobody has the other end any more.
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { process, keys, terminal, output, seen: String::new() }
    }

    /// Waits until the command has drawn that since it was last asked.
    fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(place) = self.seen.find(text) {
                self.seen.drain(..place + text.len());
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) => panic!("no {text:?} ({error}): {:?}", self.seen),
            }
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.terminal).unwrap().local_modes.contains(LocalModes::ICANON)
    }

    /// Waits for its end, and sees that the terminal is as it was.
    fn end(mut self) -> ExitStatus {
        self.wait_for(LEAVE_SCREEN);
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it goes on: {:?}", self.seen);
            thread::yield_now();
        };
        assert!(!self.is_raw());
        status
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn top_draws_takes_keys_and_gives_the_terminal_back() {
    let name = Name::new();
    succeed(&["create", &name.0, "--len", "4M"]);
    let mut peer = Peer::connect(&name.0);
    let mut session = Session::start(&["top", &name.0, "--interval", "0.1"]);
    session.wait_for(ENTER_SCREEN);
    session.wait_for(&name.0);
    session.wait_for("PEERS");
    session.wait_for("alive");
    assert!(session.is_raw());
    peer.stop();
    session.wait_for("stopped");
    peer.kill();
    session.wait_for("dead");
    session.press("\u{1b}");
    session.wait_for("POLICY");
    session.press("?");
    session.wait_for("keys ");
    session.press("xq");
    assert!(session.end().success());
}

#[test]
fn a_heap_that_goes_away_leaves_a_message() {
    let name = Name::new();
    succeed(&["create", &name.0, "--len", "4M"]);
    let mut session = Session::start(&["top", &name.0, "--interval", "0.1"]);
    session.wait_for("OBJECTS BY SIZE");
    succeed(&["destroy", &name.0, "--yes"]);
    session.wait_for("Esc leads back");
    session.press("\u{3}");
    assert!(session.end().success(), "Ctrl-C is a way to quit");
}

#[test]
fn signals_end_it_with_the_terminal_as_it_was() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut session = Session::start(&["top", "--interval", "3600"]);
        session.wait_for("q quit");
        kill_process(Pid::from_child(&session.process), signal).unwrap();
        assert!(session.end().success());
    }
    let mut session = Session::start(&["top", "--interval", "3600"]);
    session.wait_for("q quit");
    // As if a heap had been cut short.
    kill_process(Pid::from_child(&session.process), Signal::BUS).unwrap();
    assert_eq!(session.end().code(), Some(3));
}

/// `top` is not to go on, unseen, when its window is closed. In a shell that ignores the signal for
/// that, the terminal itself has to tell it.
#[test]
fn it_ends_with_its_terminal() {
    let script = "import os, pty, signal, sys\n\
        pid, terminal = pty.fork()\n\
        if pid == 0:\n\
        \x20   signal.signal(signal.SIGHUP, signal.SIG_IGN)\n\
        \x20   os.execv(sys.argv[1], sys.argv[1:])\n\
        seen = b''\n\
        signal.alarm(60)\n\
        while b'?1049h' not in seen:\n\
        \x20   seen += os.read(terminal, 4096)\n\
        os.close(terminal)\n\
        sys.exit(os.waitpid(pid, 0)[1])\n";
    let program = env!("CARGO_BIN_EXE_shmheap");
    let python =
        std::process::Command::new("python3").args(["-c", script, program, "top"]).status();
    // A machine without Python does without this test.
    if let Ok(status) = python {
        assert!(status.success(), "{status}");
    }
}

#[test]
fn without_a_terminal_there_is_one_frame() {
    let name = Name::new();
    succeed(&["create", &name.0, "--len", "4M", "--policy", "first-fit"]);
    fail(&["top"], 3, "--once");
    fail(&["top", "no-such-heap"], 3, "no heap 'no-such-heap'");
    fail(&["top", "--interval", "0"], 2, "0.1 to 3600");
    let all = succeed(&["top", "--once"]);
    assert!(all.contains("POLICY"), "{all}");
    let inside = succeed(&["top", &name.0, "--once", "--interval", "0.1"]);
    for part in [&name.0, "first fit, 4.00 MiB", "0 operations/s", "PEERS (0)", "MAP, "] {
        assert!(inside.contains(part), "no {part}: {inside}");
    }
    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("heap").to_str().unwrap().to_owned();
    assert_eq!(run(&["create", &path, "--len", "64K", "--policy", "first-fit"]).code, Some(0));
    assert!(succeed(&["top", &path, "--once"]).contains("first fit, 64.00 KiB"));
}
