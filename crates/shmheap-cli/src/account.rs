//! Names of users and groups, from `/etc/passwd` and `/etc/group`.
//!
//! Directories such as LDAP are not asked: that takes the C library's name service, and a number
//! serves where a name is not found.

use std::fs;

/// Reads a group given by name or number, for clap.
pub(crate) fn parse_group(text: &str) -> Result<u32, String> {
    if let Ok(gid) = text.parse() {
        return Ok(gid);
    }
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    id_of(&groups, text)
        .ok_or_else(|| "no such group in /etc/group; give its number instead".to_owned())
}

/// The name of user `uid`, or its number.
pub(crate) fn user_name(uid: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_of(&users, uid).map_or_else(|| uid.to_string(), str::to_owned)
}

/// Fields 1 and 3 of a colon-separated account file.
fn accounts(file: &str) -> impl Iterator<Item = (&str, u32)> {
    file.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let id = fields.nth(1)?.parse().ok()?;
        Some((name, id))
    })
}

fn id_of(file: &str, name: &str) -> Option<u32> {
    accounts(file).find(|&(candidate, _)| candidate == name).map(|(_, id)| id)
}

fn name_of(file: &str, id: u32) -> Option<&str> {
    accounts(file).find(|&(_, candidate)| candidate == id).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: &str = "root:x:0:\n# comment\nbroken\nusers:x:100:ann,bob\nstaff:x:50:\n";

    #[test]
    fn names_and_numbers_are_found() {
        assert_eq!(id_of(GROUPS, "users"), Some(100));
        assert_eq!(id_of(GROUPS, "user"), None);
        assert_eq!(id_of(GROUPS, "broken"), None);
        assert_eq!(name_of(GROUPS, 50), Some("staff"));
        assert_eq!(name_of(GROUPS, 51), None);
    }

    #[test]
    fn numbers_need_no_file() {
        assert_eq!(parse_group("4711"), Ok(4711));
        assert!(parse_group("no such group at all").unwrap_err().contains("number"));
    }
}
