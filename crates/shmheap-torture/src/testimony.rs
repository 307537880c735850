//! What processes that seem to hang are doing, in words, before they are killed for it.
//!
//! ```text
//!   4711 S 0.3 s in do_wait | 4712 R 59.2 s at 0x6f1c0 of the program
//! ```
//!
//! That is all there is to find out why, where nobody can look: so it says where each is, in the
//! kernel or in this program.

use std::fs::read_to_string;

use rustix::process::{Pid, Signal, kill_process};

use crate::process::busy_of;

/// A process and the children that it has.
pub(crate) fn of(process: u32) -> String {
    let children = read_to_string(format!("/proc/{process}/task/{process}/children"));
    let children = children.unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    let all: Vec<_> = std::iter::once(process).chain(children).map(tell).collect();
    all.join(" | ")
}

fn tell(process: u32) -> String {
    let read = |file| read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
    let stat = read("stat");
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('?');
    let busy = busy_of(&stat).unwrap_or_default();
    let mut words = format!("{process} {state} {:.1} s", busy.as_secs_f64());
    let waits_in = read("wchan");
    if waits_in.len() > 1 {
        words += &format!(" in {waits_in}");
    }
    // One that runs tells where only when it has stopped; it is to be killed in any case.
    if let Some(process) = Pid::from_raw(process as i32) {
        let _ = kill_process(process, Signal::STOP);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    words + &place(&read("syscall"), &read("maps"))
}

/// The instruction at which a process has left the program, as an offset into what is mapped there.
fn place(syscall: &str, maps: &str) -> String {
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let Some(at) = syscall.split_whitespace().next_back().and_then(hex) else {
        return String::new();
    };
    let found = maps.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let offset = hex(words.nth(1)?)?;
        let start = hex(start)?;
        let path = words.nth(2).unwrap_or("nothing");
        (start..hex(end)?)
            .contains(&at)
            .then(|| format!(" at {:#x} of {path}", at - start + offset))
    });
    found.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Fork;

    #[test]
    fn an_address_is_told_by_where_the_file_has_it() {
        let maps = "1000-3000 r--p 00000000 00:1 7 /a\n3000-5000 r-xp 00002000 00:1 7 /a b\n";
        assert_eq!(place("-1 0x7ff0 0x3010", maps), " at 0x2010 of /a");
        assert_eq!(place("running", maps), "");
        assert_eq!(place("61 0x7ff0 0x9000", maps), "");
    }

    #[test]
    fn one_that_spins_is_found_in_the_program() {
        let child = Fork::start(|| {
            loop {
                std::hint::spin_loop();
            }
        })
        .unwrap();
        let words = tell(child.number().unwrap());
        assert!(words.contains(" at 0x"), "{words}");
    }
}
