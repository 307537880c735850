//! What the derive is given: the struct, and what its attributes say. All that can be refused by
//! the look of it is refused here, with everything that is wrong in one go.

use proc_macro2::{Ident, Span};
use syn::ext::IdentExt;
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Error, Fields, GenericParam, Generics, LitStr, Path, Result,
    TypeParam,
};

/// How the compiler lays the struct out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Field after field, with padding where alignment wants it.
    C,
    /// As the one field that has bytes. Where the others lie is not laid down.
    Transparent,
}

/// A struct that looks shareable.
pub(crate) struct Input<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) generics: &'a Generics,
    pub(crate) fields: &'a Fields,
    pub(crate) layout: Layout,
    /// Stands in the fingerprint.
    pub(crate) name: String,
    /// Where shmheap is.
    pub(crate) library: Path,
}

impl<'a> Input<'a> {
    /// Judges an item.
    ///
    /// # Errors
    ///
    /// All that is wrong with it, and what to do.
    pub(crate) fn new(item: &'a DeriveInput) -> Result<Self> {
        let fields = fields(&item.data)?;
        let mut errors = Errors::default();
        let layout = errors.collect(layout(item));
        let options = errors.collect(Options::read(&item.attrs));
        for field in fields {
            for attribute in field.attrs.iter().filter(|attribute| is_ours(attribute)) {
                errors.push(Error::new_spanned(attribute, "fields have no such attribute"));
            }
        }
        for parameter in &item.generics.params {
            errors.collect(judge_parameter(parameter));
        }
        let (Some(layout), Some(options)) = (layout, options) else { return errors.report() };
        if errors.0.is_some() {
            return errors.report();
        }
        Ok(Self {
            ident: &item.ident,
            generics: &item.generics,
            fields,
            layout,
            name: options.name.map_or_else(|| item.ident.unraw().to_string(), |name| name.value()),
            library: options.library.unwrap_or_else(|| syn::parse_quote!(::shmheap)),
        })
    }
}

/// The errors so far, as one.
#[derive(Default)]
struct Errors(Option<Error>);

impl Errors {
    fn push(&mut self, error: Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            none => *none = Some(error),
        }
    }

    fn collect<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    fn report<T>(self) -> Result<T> {
        Err(self.0.unwrap_or_else(|| Error::new(Span::call_site(), "not shareable")))
    }
}

fn fields(data: &Data) -> Result<&Fields> {
    match data {
        Data::Struct(data) => Ok(&data.fields),
        Data::Enum(data) => Err(Error::new(
            data.enum_token.span,
            "an enum cannot lie in shared memory: other processes may write what is none of its \
             variants. Take a struct with a number, and a constant for each variant",
        )),
        Data::Union(data) => Err(Error::new(
            data.union_token.span,
            "a union cannot lie in shared memory: nobody knows what is in the bytes that a field \
             leaves over. Take a struct with an array of bytes, and a number that says what they \
             are",
        )),
    }
}

fn layout(item: &DeriveInput) -> Result<Layout> {
    let mut found = None;
    let mut packed = None;
    for attribute in item.attrs.iter().filter(|attribute| attribute.path().is_ident("repr")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("C") {
                found = Some(Layout::C);
            } else if meta.path.is_ident("transparent") {
                found = Some(Layout::Transparent);
            } else if meta.path.is_ident("packed") {
                packed = Some(meta.path.span());
            }
            pass_arguments(&meta)
        })?;
    }
    if let Some(span) = packed {
        let message = "fields of a packed struct are not aligned, so they can neither be borrowed \
                       nor be atomic: take `packed` out, and fill the padding with fields";
        return Err(Error::new(span, message));
    }
    found.ok_or_else(|| {
        let message = "without `#[repr(C)]` (or `#[repr(transparent)]`) every program may lay out \
                       the fields in another way: put `#[repr(C)]` before the struct";
        Error::new_spanned(&item.ident, message)
    })
}

/// Leaves `(16)` of `align(16)` behind.
fn pass_arguments(meta: &ParseNestedMeta<'_>) -> Result<()> {
    if meta.input.peek(syn::token::Paren) {
        let arguments;
        syn::parenthesized!(arguments in meta.input);
        arguments.parse::<proc_macro2::TokenStream>()?;
    }
    Ok(())
}

fn is_ours(attribute: &Attribute) -> bool {
    attribute.path().is_ident("shareable")
}

/// What `#[shareable(...)]` before a struct says.
#[derive(Default)]
struct Options {
    name: Option<LitStr>,
    library: Option<Path>,
}

impl Options {
    fn read(attributes: &[Attribute]) -> Result<Self> {
        let mut options = Self::default();
        for attribute in attributes.iter().filter(|attribute| is_ours(attribute)) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("name") {
                    let name = meta.value()?.parse()?;
                    set_once(&meta, &mut options.name, name)
                } else if meta.path.is_ident("crate") {
                    let path =
                        meta.value()?.parse::<LitStr>()?.parse_with(Path::parse_mod_style)?;
                    set_once(&meta, &mut options.library, path)
                } else {
                    Err(meta.error("a struct has `name = \"...\"` and `crate = \"...\"` only"))
                }
            })?;
        }
        Ok(options)
    }
}

fn set_once<T>(meta: &ParseNestedMeta<'_>, option: &mut Option<T>, value: T) -> Result<()> {
    match option.replace(value) {
        Some(_) => Err(meta.error("given twice: leave one of them")),
        None => Ok(()),
    }
}

fn judge_parameter(parameter: &GenericParam) -> Result<()> {
    match parameter {
        GenericParam::Lifetime(lifetime) => Err(Error::new_spanned(
            lifetime,
            "what lies in shared memory borrows nothing: take the lifetime out, and name other \
             objects by `Handle<T>`",
        )),
        GenericParam::Type(parameter) => is_skipped(parameter).map(drop),
        GenericParam::Const(parameter) => {
            match parameter.attrs.iter().find(|attribute| is_ours(attribute)) {
                Some(attribute) => {
                    Err(Error::new_spanned(attribute, "numbers are part of the fingerprint always"))
                }
                None => Ok(()),
            }
        }
    }
}

/// Whether a type parameter is left out of the fingerprint.
pub(crate) fn is_skipped(parameter: &TypeParam) -> Result<bool> {
    let mut skipped = false;
    for attribute in parameter.attrs.iter().filter(|attribute| is_ours(attribute)) {
        attribute.parse_nested_meta(|meta| {
            skipped = meta.path.is_ident("skip");
            if skipped { Ok(()) } else { Err(meta.error("a type parameter has `skip` only")) }
        })?;
    }
    Ok(skipped)
}
