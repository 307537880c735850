//! What a word is: a run of letters and digits, in lower case.

/// The words of a text as they stand in it.
pub(super) fn raw(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// Calls `visit` with each word in lower case, until it fails.
pub(super) fn each<E>(text: &str, mut visit: impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
    let mut lower = String::new();
    for word in raw(text) {
        lower.clear();
        if word.is_ascii() {
            lower.push_str(word);
            lower.make_ascii_lowercase();
        } else {
            lower.push_str(&word.to_lowercase());
        }
        visit(&lower)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters_and_digits_in_lower_case() {
        let mut words = Vec::new();
        each("The 2nd \u{c9}T\u{c9}, don't--stop", |word| {
            words.push(word.to_owned());
            Ok::<(), ()>(())
        })
        .unwrap();
        assert_eq!(words, ["the", "2nd", "\u{e9}t\u{e9}", "don", "t", "stop"]);
        assert_eq!(raw(" .,- ").count(), 0);
        assert_eq!(each("a b", |_| Err(7)), Err(7));
    }
}
