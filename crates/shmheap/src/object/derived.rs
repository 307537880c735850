//! What the derive macro has the compiler look at: that a type has no padding and no destructor.
//!
//! Nobody else calls these, for they do nothing or end the compilation. The error points at their
//! caller, to which the macro gives the place of the field.

/// Refuses a type with a destructor.
#[track_caller]
pub const fn refuse_drop<T>() {
    assert!(
        !core::mem::needs_drop::<T>(),
        "what lies in shared memory is never dropped: take out `impl Drop`, and do what it does \
         where the object is freed"
    );
}

/// Refuses bytes of padding, and says how and at which place to fill them.
#[track_caller]
#[allow(clippy::panic, reason = "it ends the compilation")]
pub const fn refuse_padding(padding_bytes: usize, place: &str) {
    if padding_bytes == 0 {
        return;
    }
    let mut text = [0; 128];
    let end = append(&mut text, 0, b"padding: put a field `_padding: [u8; ");
    let end = append_decimal(&mut text, end, padding_bytes);
    let end = append(&mut text, end, b"]` ");
    let end = append(&mut text, end, place.as_bytes());
    match str::from_utf8(text.split_at(end).0) {
        Ok(text) => panic!("{}", text),
        Err(_) => panic!("padding"),
    }
}

/// Puts bytes into the text at `end`, and gives the new end.
const fn append(text: &mut [u8], mut end: usize, bytes: &[u8]) -> usize {
    let mut at = 0;
    while at < bytes.len() {
        text[end] = bytes[at];
        at += 1;
        end += 1;
    }
    end
}

const fn append_decimal(text: &mut [u8], end: usize, number: usize) -> usize {
    let end = if number < 10 { end } else { append_decimal(text, end, number / 10) };
    append(text, end, &[b'0' + (number % 10) as u8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(padding_bytes: usize) -> Option<String> {
        let refused = std::panic::catch_unwind(|| refuse_padding(padding_bytes, "here"));
        refused.err().and_then(|payload| payload.downcast_ref::<String>().cloned())
    }

    #[test]
    fn padding_is_refused_with_its_length() {
        assert_eq!(message(0), None);
        for padding_bytes in [1, 9, 10, 4095, usize::MAX] {
            let expected = format!("padding: put a field `_padding: [u8; {padding_bytes}]` here");
            assert_eq!(message(padding_bytes), Some(expected));
        }
    }

    #[test]
    fn a_destructor_is_refused() {
        refuse_drop::<[u64; 3]>();
        std::panic::catch_unwind(refuse_drop::<String>).unwrap_err();
    }
}
