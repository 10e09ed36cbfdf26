//! What each route needs.
//!
//! A request for a path and a method without a rule is refused before it gets to its handler, whoever sends it.

use std::collections::HashMap;

use axum::http::Method;

use super::Role;

/// What a client needs to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: whoever reaches the node may ask.
    Nothing,
    /// A role in all vaults.
    Everywhere(Role),
    /// A role in one vault at least.
    Somewhere(Role),
    /// A role in the vault that the path names.
    InVault(Role),
}

impl Need {
    /// The role.
    pub(crate) fn role(self) -> Option<Role> {
        match self {
            Need::Nothing => None,
            Need::Everywhere(role) | Need::Somewhere(role) | Need::InVault(role) => Some(role),
        }
    }
}

/// The rules of all routes, by path as the router has it.
#[derive(Debug, Default)]
pub(crate) struct Rules(HashMap<String, Vec<(Method, Need)>>);

impl Rules {
    /// Adds a rule.
    pub(crate) fn add(&mut self, path: &str, method: Method, need: Need) {
        let methods = self.0.entry(path.to_owned()).or_default();
        methods.push((method, need));
    }

    /// What a method of a path needs; `None` if it has no rule. HEAD is a GET without its body.
    pub(crate) fn of(&self, path: &str, method: &Method) -> Option<Need> {
        let method = match *method {
            Method::HEAD => &Method::GET,
            _ => method,
        };
        let rule = self.0.get(path)?.iter().find(|(known, _)| known == method);
        rule.map(|(_, need)| *need)
    }

    /// The methods of a path, as the header `Allow` has them.
    pub(crate) fn methods(&self, path: &str) -> String {
        let methods = self.0.get(path).into_iter().flatten();
        let methods: Vec<_> = methods.map(|(method, _)| method.as_str()).collect();
        methods.join(", ")
    }
}
