//! What the derive writes: the implementation, and checks that only the compiler can make.
//!
//! ```text
//! unsafe impl<T: Shareable> Shareable for X<T> {
//!     const FINGERPRINT: Fingerprint = {
//!         no Drop; no padding before any field or behind the last;
//!         Fingerprint::new("X", size, alignment)
//!             .parameter(T)...             types and numbers among the parameters
//!             .field("a", offset, A)...    fails to compile if A is not Shareable
//!     };
//!     fn owned_cells(..)                   those of each field
//! }
//! const _: Fingerprint = X::FINGERPRINT;   not for a generic type: whoever uses it has it checked
//! ```
//!
//! A check has the place of what it is about, by which the compiler finds the line to show, and is
//! written by the macro nevertheless, by which lints know that it is no code of the user's.
//!
//! # Unsafe code
//!
//! It writes an `unsafe impl`. Its contract is kept by these checks: any bytes are values of the
//! fields, so they are one of the struct; the fields and no padding are all its bytes; they hold no
//! addresses, and their layout is laid down by `repr`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Field, GenericParam, Generics, Index, Member, Path, parse_quote_spanned};

use crate::input::{Input, Layout, is_skipped};

/// The implementation of `Shareable` for a struct.
pub(crate) fn implementation(input: &Input<'_>) -> TokenStream {
    let Input { ident, library, name, .. } = input;
    let generics = bounded(input.generics, library);
    let (parameters, arguments, conditions) = generics.split_for_impl();
    let checks = checks(input);
    let folded_parameters = input.generics.params.iter().map(|one| fold_parameter(one, library));
    let folded_fields = members(input).map(|(member, field)| fold_field(&member, field, input));
    let owned_cells = members(input).map(|(member, field)| owned_cells(&member, field, input));
    let check_now = generics.params.is_empty().then(|| {
        quote! { const _: #library::Fingerprint = <#ident as #library::Shareable>::FINGERPRINT; }
    });
    quote! {
        #[automatically_derived]
        unsafe impl #parameters #library::Shareable for #ident #arguments #conditions {
            const FINGERPRINT: #library::Fingerprint = {
                #checks
                #library::Fingerprint::new(
                    #name,
                    ::core::mem::size_of::<Self>(),
                    ::core::mem::align_of::<Self>(),
                )
                #(#folded_parameters)*
                #(#folded_fields)*
            };

            fn owned_cells(visit: &mut dyn ::core::ops::FnMut(#library::OwnedCell)) {
                let _ = &visit;
                #(#owned_cells)*
            }
        }
        #check_now
    }
}

/// The generics of the struct, with what the implementation asks of its parameters.
fn bounded(generics: &Generics, library: &Path) -> Generics {
    let mut bounded = generics.clone();
    for parameter in &mut bounded.params {
        match parameter {
            GenericParam::Lifetime(parameter) => parameter.attrs.clear(),
            GenericParam::Type(parameter) => parameter.attrs.clear(),
            GenericParam::Const(parameter) => parameter.attrs.clear(),
        }
    }
    for parameter in generics.type_params() {
        let ident = &parameter.ident;
        let condition = if is_skipped(parameter).unwrap_or(false) {
            parse_quote_spanned! {ident.span()=> #ident: 'static }
        } else {
            parse_quote_spanned! {ident.span()=> #ident: #library::Shareable }
        };
        bounded.make_where_clause().predicates.push(condition);
    }
    bounded
}

fn checks(input: &Input<'_>) -> TokenStream {
    let at_struct = place_of(input.ident);
    let library = located(&input.library, at_struct);
    let no_drop = quote_spanned! {at_struct=> #library::derived::refuse_drop::<Self>(); };
    if input.layout == Layout::Transparent {
        return no_drop;
    }
    let mut end = quote! { 0 };
    let mut padding = Vec::new();
    for (member, field) in members(input) {
        let place = field.ident.as_ref().map_or_else(|| place_of(&field.ty), place_of);
        let ty = &field.ty;
        let offset = quote! { ::core::mem::offset_of!(Self, #member) };
        let library = located(&input.library, place);
        padding.push(quote_spanned! {place=>
            #library::derived::refuse_padding(#offset - (#end), "before this one");
        });
        end = quote! { #offset + ::core::mem::size_of::<#ty>() };
    }
    padding.push(quote_spanned! {at_struct=>
        #library::derived::refuse_padding(::core::mem::size_of::<Self>() - (#end), "at the end");
    });
    quote! { #no_drop #(#padding)* }
}

fn fold_parameter(parameter: &GenericParam, library: &Path) -> TokenStream {
    match parameter {
        GenericParam::Type(parameter) if !is_skipped(parameter).unwrap_or(false) => {
            let ident = &parameter.ident;
            quote! { .parameter(<#ident as #library::Shareable>::FINGERPRINT) }
        }
        GenericParam::Const(parameter) => {
            let ident = &parameter.ident;
            let half = |shift_bits: u32| {
                quote! {
                    .parameter(#library::Fingerprint::from_raw(
                        ((#ident as ::core::primitive::u128) >> #shift_bits)
                            as ::core::primitive::u64
                    ))
                }
            };
            let (low, high) = (half(0), half(64));
            quote! { #low #high }
        }
        GenericParam::Type(_) | GenericParam::Lifetime(_) => TokenStream::new(),
    }
}

fn fold_field(member: &Member, field: &Field, input: &Input<'_>) -> TokenStream {
    let library = &input.library;
    let ty = &field.ty;
    let name = match member {
        Member::Named(ident) => ident.unraw().to_string(),
        Member::Unnamed(index) => index.index.to_string(),
    };
    let offset = offset(member, input);
    quote! { .field(#name, #offset, <#ty as #library::Shareable>::FINGERPRINT) }
}

/// Visits the cells through which a field owns other objects.
fn owned_cells(member: &Member, field: &Field, input: &Input<'_>) -> TokenStream {
    let (library, ty, offset) = (&input.library, &field.ty, offset(member, input));
    quote! {
        <#ty as #library::Shareable>::owned_cells(&mut |cell| visit(cell.within(#offset)));
    }
}

fn offset(member: &Member, input: &Input<'_>) -> TokenStream {
    match input.layout {
        Layout::C => quote! { ::core::mem::offset_of!(Self, #member) },
        Layout::Transparent => quote! { 0 },
    }
}

/// The fields, and what they are called in the struct.
fn members<'a>(input: &'a Input<'_>) -> impl Iterator<Item = (Member, &'a Field)> {
    input.fields.iter().enumerate().map(|(number, field)| {
        let member = match &field.ident {
            Some(ident) => Member::Named(ident.clone()),
            None => Member::Unnamed(Index::from(number)),
        };
        (member, field)
    })
}

/// The path with each of its tokens at a place.
fn located(path: &Path, place: Span) -> TokenStream {
    let tokens = path.to_token_stream().into_iter();
    let located = tokens.map(|mut token| {
        token.set_span(token.span().located_at(place));
        token
    });
    located.collect()
}

/// The place of some code of the user's, for code of the macro's.
fn place_of(code: &impl Spanned) -> Span {
    Span::call_site().located_at(code.span())
}
