//! What a rollout orders of its targets: the same of all, but for the file that
//! fits a host, and in a way back the version it had.

use bootagent_protocol::Action;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::fleet::package_choice::{HostSystem, Offer, PackageKind, choose};

/// All there is to order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Goods {
    /// One per file, newest first; one alone where no file is needed.
    pub variants: Vec<Variant>,
}

/// One order, and for whom it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// The targets that shall get this version in particular; none for those that
    /// shall get what all get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_for: Option<String>,
    /// The uploaded file, where one is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<File>,
    /// What to do.
    pub action: Action,
    /// The version, if the action brings one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The order as on the wire, without its id and without `expires`.
    pub body: Map<String, Value>,
}

/// An uploaded file and what it was made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of the table package")]
pub struct File {
    pub id: String,
    pub os: String,
    pub arch: String,
    pub kind: PackageKind,
}

impl Goods {
    /// What a target gets: by the version it shall get in particular, if any, and
    /// by its system. None when there is no file for it.
    pub fn pick(&self, only_for: Option<&str>, system: HostSystem<'_>) -> Option<&Variant> {
        let variants: Vec<&Variant> = self
            .variants
            .iter()
            .filter(|variant| variant.only_for.as_deref() == only_for)
            .collect();
        let offers: Option<Vec<Offer<'_>>> = variants
            .iter()
            .map(|variant| variant.file.as_ref().map(File::offer))
            .collect();
        match offers {
            Some(offers) => choose(&offers, system).and_then(|index| variants.get(index).copied()),
            // One that needs no file is for everybody.
            None => variants.first().copied(),
        }
    }

    /// The uploaded files it needs, by id.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let files = self.variants.iter().filter_map(|it| it.file.as_ref());
        files.map(|file| file.id.as_str())
    }
}

impl File {
    fn offer(&self) -> Offer<'_> {
        Offer {
            os: &self.os,
            arch: &self.arch,
            kind: self.kind,
        }
    }
}

impl Variant {
    /// The order as on the wire, without its id, for a job that must not begin after
    /// `begin_before` in unix milliseconds.
    pub fn body(&self, begin_before: i64) -> Value {
        let mut body = self.body.clone();
        // The wire counts in seconds; a broken one is still in time.
        let expires = begin_before.div_euclid(1000).saturating_add(1);
        body.insert("expires".into(), Value::from(expires));
        Value::Object(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variant(id: &str, arch: &str, only_for: Option<&str>) -> Variant {
        Variant {
            only_for: only_for.map(str::to_owned),
            file: Some(File {
                id: id.into(),
                os: "linux".into(),
                arch: arch.into(),
                kind: PackageKind::Bundle,
            }),
            action: Action::Upgrade,
            version: None,
            body: Map::new(),
        }
    }

    #[test]
    fn each_target_gets_the_file_of_its_version_that_fits_it() {
        let back = Variant {
            file: None,
            action: Action::Uninstall,
            ..variant("", "", Some(""))
        };
        let goods = Goods {
            variants: vec![
                variant("a", "x86_64", None),
                variant("b", "aarch64", None),
                variant("c", "x86_64", Some("1.0")),
                back.clone(),
            ],
        };
        let pick = |only_for, arch| {
            let os = "debian 12";
            let picked = goods.pick(only_for, HostSystem { os, arch });
            picked.and_then(|variant| variant.file.as_ref()?.id.as_str().into())
        };
        assert_eq!(pick(None, "x86_64"), Some("a"));
        assert_eq!(pick(None, "aarch64"), Some("b"));
        assert_eq!(pick(None, "riscv64"), None);
        assert_eq!(pick(Some("1.0"), "x86_64"), Some("c"));
        assert_eq!(pick(Some("1.0"), "aarch64"), None);
        assert_eq!(pick(Some("0.9"), "x86_64"), None);
        let (os, arch) = ("", "");
        let uninstall = goods.pick(Some(""), HostSystem { os, arch });
        assert_eq!(uninstall, Some(&back));
        assert_eq!(goods.files().collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn an_order_says_until_when_it_may_begin() {
        let body = variant("a", "noarch", None).body(1500);
        assert_eq!(body["expires"], 2);
    }
}
