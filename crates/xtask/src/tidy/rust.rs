//! Rules for Rust files, read as tokens: comments and strings cannot be mistaken for code.

use std::collections::HashMap;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use super::Finding;
use super::markdown::Inventory;

/// Sources of the core crate, whose modules are layers.
pub(super) const CORE: &str = "crates/shmheap/src";

/// Lowest first; a module uses only its own row and those above it in this list.
const LAYERS: [&[&str]; 10] = [
    &["error", "events", "handle", "units"],
    &["os"],
    &["segment"],
    &["peers"],
    &["labels"],
    &["first_fit", "slab"],
    &["heap"],
    &["object"],
    &["sync"],
    &["collections", "channel"],
];

/// `Relaxed` orders nothing, so it has no partner to name.
const ORDERINGS: [&str; 4] = ["Acquire", "Release", "AcqRel", "SeqCst"];

/// How far above a memory ordering its comment may stand.
const ORDERING_COMMENT_LINES: usize = 6;

pub(super) fn check(
    file: &str,
    content: &str,
    is_test: bool,
    reexports: &Reexports,
    inventory: &Inventory,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let opening = content.lines().position(|line| !line.trim().is_empty()).unwrap_or(0);
    if !content.lines().nth(opening).is_some_and(|line| line.starts_with("//!")) {
        let rule = "a Rust file opens with `//!`: what it is and who may use it";
        findings.push(Finding::new(file, opening + 1, rule));
    }
    let stream = match content.parse::<TokenStream>() {
        Ok(stream) => stream,
        Err(error) => {
            let rule = format!("not Rust: {error}");
            findings.push(Finding::new(file, error.span().start().line, rule));
            return findings;
        }
    };
    if is_test {
        return findings;
    }
    let mut tokens = Vec::new();
    flatten(stream, &mut tokens);
    findings.extend(layers(file, &tokens, reexports));
    findings.extend(unsafe_code(file, &tokens, inventory));
    findings.extend(orderings(file, &tokens, content));
    findings
}

/// A token of code that is not under `cfg(test)`.
struct Token {
    text: String,
    line: usize,
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) => flatten_group(&group, tokens),
            TokenTree::Punct(mark) if mark.as_char() == '#' => {
                let is_test = trees.peek().is_some_and(is_cfg_test);
                if is_test {
                    trees.by_ref().skip(1).find(ends_item);
                }
            }
            other => tokens.push(Token { text: other.to_string(), line }),
        }
    }
}

fn flatten_group(group: &Group, tokens: &mut Vec<Token>) {
    let (open, close) = match group.delimiter() {
        Delimiter::Brace => ("{", "}"),
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::None => ("", ""),
    };
    tokens.push(Token { text: open.to_owned(), line: group.span_open().start().line });
    flatten(group.stream(), tokens);
    tokens.push(Token { text: close.to_owned(), line: group.span_close().start().line });
}

/// `[cfg(test)]`, `[cfg(all(test, ...))]`, but not `[cfg(not(test))]`.
fn is_cfg_test(tree: &TokenTree) -> bool {
    let text = tree.to_string();
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    words.contains(&"cfg") && words.contains(&"test") && !words.contains(&"not")
}

fn ends_item(tree: &TokenTree) -> bool {
    match tree {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(mark) => mark.as_char() == ';',
        _ => false,
    }
}

/// The files of modules that `file` declares under `cfg(test)`, as in `#[cfg(test)] mod model;`.
pub(super) fn test_modules(file: &str, content: &str) -> Vec<String> {
    let mut trees = content.parse::<TokenStream>().unwrap_or_default().into_iter();
    let mut files = Vec::new();
    while trees.by_ref().any(|tree| is_cfg_test(&tree)) {
        let mut item = Vec::new();
        for tree in trees.by_ref() {
            item.push(tree.to_string());
            if ends_item(&tree) {
                break;
            }
        }
        if let [.., keyword, name, end] = item.as_slice()
            && (keyword.as_str(), end.as_str()) == ("mod", ";")
        {
            let folder = module_folder(file);
            files.extend([format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]);
        }
    }
    files
}

/// Where the modules that a file declares lie.
fn module_folder(file: &str) -> &str {
    let (folder, name) = file.rsplit_once('/').unwrap_or((".", file));
    match name {
        "mod.rs" | "lib.rs" | "main.rs" => folder,
        _ => file.trim_end_matches(".rs"),
    }
}

/// Which module each name of the crate's root comes from.
#[derive(Default)]
pub(super) struct Reexports(HashMap<String, String>);

impl Reexports {
    /// Reads the `pub use module::{Name, ...}` of `lib.rs`.
    pub(super) fn parse(lib: &str) -> Self {
        let mut tokens = Vec::new();
        flatten(lib.parse().unwrap_or_default(), &mut tokens);
        let mut names = HashMap::new();
        for statement in tokens.split(|token| token.text == ";") {
            let words: Vec<&str> = statement.iter().map(|token| token.text.as_str()).collect();
            let Some(at) = words.iter().position(|word| *word == "use") else { continue };
            let Some(module) = words.get(at + 1) else { continue };
            for name in &words[at + 2..] {
                names.insert((*name).to_owned(), (*module).to_owned());
            }
        }
        Self(names)
    }

    fn module_of<'a>(&'a self, name: &'a str) -> &'a str {
        self.0.get(name).map_or(name, String::as_str)
    }
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

fn layers(file: &str, tokens: &[Token], reexports: &Reexports) -> Vec<Finding> {
    let Some(inner) = file.strip_prefix(CORE).and_then(|path| path.strip_prefix('/')) else {
        return Vec::new();
    };
    let own = inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs");
    if own == "lib" {
        return Vec::new();
    }
    let Some(own_layer) = layer(own) else {
        let rule = format!("module `{own}` has no layer: give it one in LAYERS of xtask tidy");
        return vec![Finding::new(file, 1, rule)];
    };
    let depth = inner.split('/').count() - usize::from(inner.ends_with("/mod.rs"));
    let uses = root_names(tokens, depth);
    let above = uses.filter_map(|name| {
        let module = reexports.module_of(&name.text);
        (layer(module)? > own_layer).then(|| {
            let rule = format!("`{own}` uses `{module}` (`{}`), a layer above it", name.text);
            Finding::new(file, name.line, rule)
        })
    });
    above.collect()
}

/// The names that are taken from the crate's root, by `crate::` or by enough `super::`.
fn root_names(tokens: &[Token], depth: usize) -> impl Iterator<Item = &Token> {
    let starts = (0..tokens.len()).filter_map(move |at| {
        let path = &tokens[at..];
        if is(path, 0, "crate") && is(path, 1, ":") && is(path, 2, ":") {
            return Some(&path[3..]);
        }
        let is_first = at < 1 || tokens[at - 1].text != ":";
        let supers = path.chunks(3).take_while(|chunk| is(chunk, 0, "super")).count();
        (is_first && supers == depth).then(|| path.get(supers * 3..)).flatten()
    });
    starts.flat_map(first_names)
}

fn is(tokens: &[Token], at: usize, text: &str) -> bool {
    tokens.get(at).is_some_and(|token| token.text == text)
}

/// `a` of `a::b`; `a` and `c` of `{a::b, c}`.
fn first_names(path: &[Token]) -> Vec<&Token> {
    if !is(path, 0, "{") {
        return path.first().into_iter().collect();
    }
    let mut nesting = 0_usize;
    let mut names = Vec::new();
    for (at, token) in path.iter().enumerate() {
        match token.text.as_str() {
            "{" => nesting += 1,
            "}" => nesting -= 1,
            _ if nesting == 1 && (is(path, at - 1, "{") || is(path, at - 1, ",")) => {
                names.push(token);
            }
            _ => {}
        }
        if nesting == 0 {
            break;
        }
    }
    names
}

fn unsafe_code(file: &str, tokens: &[Token], inventory: &Inventory) -> Option<Finding> {
    let first = tokens.iter().find(|token| token.text == "unsafe")?;
    let rule = "unsafe in a file that the unsafe inventory of ARCHITECTURE.md does not list";
    (!inventory.lists(file)).then(|| Finding::new(file, first.line, rule))
}

fn orderings(file: &str, tokens: &[Token], content: &str) -> Vec<Finding> {
    let lines: Vec<&str> = content.lines().collect();
    let ordering_lines = tokens.windows(4).filter_map(|path| {
        let names = is(path, 0, "Ordering") && is(path, 1, ":") && is(path, 2, ":");
        (names && ORDERINGS.contains(&path[3].text.as_str())).then_some(path[3].line)
    });
    let mut silent: Vec<usize> = ordering_lines
        .filter(|line| {
            let first = line.saturating_sub(ORDERING_COMMENT_LINES + 1);
            !lines[first..*line].iter().any(|line| line.contains("//"))
        })
        .collect();
    silent.dedup();
    let rule = "a memory ordering without a comment that names its partner";
    silent.into_iter().map(|line| Finding::new(file, line, rule)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIB: &str = "mod heap; mod os; pub use error::Error; pub use heap::{Handle, Heap};";

    const NONE: [usize; 0] = [];

    fn rules(file: &str, code: &str) -> Vec<(usize, String)> {
        let inventory = Inventory::parse("## Unsafe inventory\n- `listed.rs`\n");
        let content = format!("//! Story.\n{code}");
        let findings = check(file, &content, false, &Reexports::parse(LIB), &inventory);
        findings.into_iter().map(|finding| (finding.line, finding.rule)).collect()
    }

    fn core_rules(module: &str, code: &str) -> Vec<usize> {
        let file = format!("{CORE}/{module}");
        rules(&file, code).into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn a_file_without_a_story_is_found() {
        let none =
            check("a.rs", "\nfn main() {}", true, &Reexports::default(), &Inventory::default());
        assert_eq!(none[0].line, 2);
        assert_eq!(rules("a.rs", "fn main() {}"), []);
    }

    #[test]
    fn a_layer_uses_those_below_it() {
        assert_eq!(core_rules("peers/mod.rs", "use crate::segment::words::Words;"), NONE);
        assert_eq!(core_rules("peers/mod.rs", "use crate::{Error, units::Offset};"), NONE);
        assert_eq!(core_rules("heap/mod.rs", "use crate::first_fit::Engine;"), NONE);
        assert_eq!(core_rules("heap/handle.rs", "use super::Heap;"), NONE);
        assert_eq!(core_rules("os/a.rs", "use crate::os::mapping::Mapping;"), NONE);
    }

    #[test]
    fn a_layer_that_uses_a_higher_one_is_found() {
        assert_eq!(core_rules("os/mod.rs", "\nuse crate::segment::words::Words;"), [3]);
        assert_eq!(core_rules("os/a.rs", "use crate::{units, peers::{A, B},\nheap};"), [2, 3]);
        assert_eq!(core_rules("os/a.rs", "fn f() { crate::heap::g() }"), [2]);
        assert_eq!(core_rules("units.rs", "use crate::Handle;"), [2], "through lib.rs");
        assert_eq!(core_rules("os/a.rs", "use super::super::heap::Heap;"), [2]);
        assert_eq!(core_rules("units.rs", "use super::os;"), [2]);
    }

    #[test]
    fn a_module_without_a_layer_is_found() {
        assert_eq!(core_rules("misc.rs", ""), [1]);
        assert_eq!(core_rules("lib.rs", "use heap::Heap;"), NONE);
    }

    #[test]
    fn unsafe_is_found_outside_the_inventory() {
        let code = "fn f() {\n    unsafe { g() }\n}";
        assert_eq!(rules("listed.rs", code), []);
        assert_eq!(rules("other.rs", code)[0].0, 3);
        assert_eq!(rules("other.rs", "// unsafe\nconst A: &str = \"unsafe\";"), []);
        assert_eq!(rules("other.rs", "#![allow(unsafe_code)]"), []);
    }

    #[test]
    fn orderings_need_a_comment_nearby() {
        let load = "fn f() { a.load(Ordering::Acquire) }";
        assert_eq!(rules("a.rs", load).len(), 0, "the story itself is near");
        let far = "\n".repeat(ORDERING_COMMENT_LINES);
        assert_eq!(rules("a.rs", &format!("{far}{load}"))[0].0, 8);
        let near = "\n".repeat(ORDERING_COMMENT_LINES - 1);
        assert_eq!(rules("a.rs", &format!("{far}// Partner: g.\n{near}{load}")), []);
        assert_eq!(rules("a.rs", &format!("{far}{load} // Partner: g.")), []);
        assert_eq!(rules("a.rs", &format!("{far}a.cmp(b) == Ordering::Less")), []);
    }

    #[test]
    fn test_code_is_free() {
        let code = "use crate::heap::Heap; fn f() { unsafe { g() } }";
        assert_eq!(core_rules("os/a.rs", &format!("#[cfg(test)]\nmod tests {{ {code} }}")), NONE);
        assert_eq!(
            core_rules("os/a.rs", &format!("#[cfg(not(test))]\nmod m {{ {code} }}")).len(),
            2
        );
        let none = (Reexports::default(), Inventory::default());
        let code_of_tests = format!("//! Story.\n{code}");
        assert_eq!(check("tests/api.rs", &code_of_tests, true, &none.0, &none.1), []);
        let after = format!("#[cfg(test)]\nuse a::b;\n#[cfg(test)] mod tests {{}}\n{code}");
        assert_eq!(core_rules("os/a.rs", &after), [5, 5], "the exemption ends with its item");
    }

    #[test]
    fn files_of_test_modules_are_known() {
        let code =
            "mod a;\n#[cfg(test)]\npub(crate) mod model;\n#[cfg(test)]\nmod tests {}\nmod b;";
        let in_folder = ["src/os/model.rs", "src/os/model/mod.rs"];
        assert_eq!(test_modules("src/os/mod.rs", code), in_folder);
        assert_eq!(test_modules("src/os.rs", code), in_folder);
    }
}
