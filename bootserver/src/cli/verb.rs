//! Everything that can be said, as a table: the help is made from it, and what
//! is not in it is refused.

use super::client::Client;
use super::deed;
use super::failure::Failure;
use super::words::Said;

/// What one may do with one kind of thing.
#[derive(Debug)]
pub(super) struct Verb {
    /// The kind of thing.
    pub(super) noun: &'static str,
    /// What is done; nothing where the noun says it all.
    pub(super) verb: &'static str,
    /// What follows: `WORD` must, `[WORD]` may, `WORD...` once or more, `[WORD...]`
    /// as often as one likes.
    operands: &'static str,
    /// Names of its options.
    pub(super) options: &'static [&'static str],
    summary: &'static str,
    /// Does it.
    pub(super) deed: fn(&Client, &Said) -> Result<(), Failure>,
}

/// An option and the field of the API it sets.
#[derive(Debug)]
pub(super) struct Opt {
    pub(super) name: &'static str,
    pub(super) field: &'static str,
    value: &'static str,
    pub(super) kind: Kind,
    summary: &'static str,
}

/// What the value of an option is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A text.
    Text,
    /// A whole number.
    Number,
    /// There is none.
    Flag,
    /// A length of time.
    Seconds,
    /// So long ago.
    Ago,
    /// A restriction to hosts with tags.
    Scope,
    /// Nothing the API knows: the verb itself uses it.
    Own,
}

/// Rows of the two tables below, a line each.
macro_rules! verbs {
    ($($noun:literal $verb:literal $operands:literal [$($option:literal)*] $summary:literal => $deed:ident;)*) => {
        [$(Verb {
            noun: $noun,
            verb: $verb,
            operands: $operands,
            options: &[$($option),*],
            summary: $summary,
            deed: deed::$deed,
        }),*]
    };
}
macro_rules! options {
    ($($name:literal $field:literal $kind:ident $value:literal $summary:literal;)*) => {
        [$(Opt {
            name: $name,
            field: $field,
            kind: Kind::$kind,
            value: $value,
            summary: $summary,
        }),*]
    };
}

/// Every verb, in the order of the help.
pub(super) const VERBS: [Verb; 52] = verbs! {
    "host" "list" "" ["selector" "group" "hostname" "search" "agent" "agent-version" "agent-state" "os" "arch" "version" "ip" "state" "sort" "limit"] "hosts by name" => host_list;
    "host" "show" "HOST" [] "one host and its agents" => host_show;
    "host" "edit" "HOST" ["display-name" "notes"] "what operators call it and write about it" => host_edit;
    "host" "export" "" ["selector" "group" "hostname" "search" "agent" "agent-version" "agent-state" "os" "arch" "version" "ip" "state" "sort" "format"] "every host of a query, with all that is known, to standard output" => host_export;
    "host" "tag" "[TAGS]" ["selector" "group" "hostname" "search" "agent" "agent-version" "agent-state" "os" "arch" "version" "ip" "state" "unset" "expected-hosts"] "add or change tags of every host of a query" => host_tag;
    "host" "delete" "HOST" [] "forget a host; it has to enrol again" => host_delete;
    "tag" "set" "HOST TAGS" [] "add or change tags: svc=ecs,cmpt=DB" => tag_set;
    "tag" "unset" "HOST KEY..." [] "take tags away" => tag_unset;
    "group" "list" "" ["limit"] "groups by name" => group_list;
    "group" "show" "GROUP" [] "one group" => group_show;
    "group" "create" "NAME" ["selector" "description"] "a new group" => group_create;
    "group" "edit" "GROUP" ["name" "selector" "description"] "change it; with --selector '' it has none" => group_edit;
    "group" "add" "GROUP [HOST...]" ["group"] "name hosts, or groups, that are in it" => group_add;
    "group" "remove" "GROUP [HOST...]" ["group"] "name them no longer" => group_remove;
    "group" "delete" "GROUP" [] "remove a group; its hosts stay" => group_delete;
    "token" "create" "KIND NAME" ["role" "scope" "tags" "uses" "expires-in"] "a new token; KIND is api or enrolment" => token_create;
    "token" "list" "KIND" ["limit"] "tokens, without their texts" => token_list;
    "token" "revoke" "KIND ID" [] "end a token" => token_revoke;
    "package" "add" "FILE" ["name" "version" "os" "arch" "checksum"] "upload an rpm, deb or bundle, with FILE.minisig if it is there" => package_add;
    "package" "list" "" ["name" "limit"] "uploaded packages" => package_list;
    "package" "delete" "ID" [] "remove a package" => package_delete;
    "job" "create" "ACTION [AGENT]" ["host" "selector" "group" "expected-hosts" "version" "package" "url" "checksum" "expires-in" "watch" "step" "downgrade" "data"] "order something on hosts" => job_create;
    "job" "list" "" ["host" "state" "limit"] "jobs, newest first" => job_list;
    "job" "show" "ID" [] "one job and its result" => job_show;
    "job" "cancel" "ID" [] "withdraw a job that has not begun" => job_cancel;
    "rollout" "create" "ACTION [AGENT]" ["host" "selector" "group" "hostname" "all" "expected-hosts" "version" "package" "url" "checksum" "watch" "step" "downgrade" "name" "parallel" "stages" "soak" "fail-count" "fail-rate" "expires-in" "second-user" "dry-run" "data"] "order something on many hosts, in stages" => rollout_create;
    "rollout" "list" "" ["phase" "limit"] "rollouts, newest first" => rollout_list;
    "rollout" "show" "ID" [] "one rollout and what it waits for" => rollout_show;
    "rollout" "targets" "ID" ["state" "limit"] "its hosts and what each waits for" => rollout_targets;
    "rollout" "confirm" "ID" ["revision"] "agree to one that needs a second user" => rollout_confirm;
    "rollout" "pause" "ID" ["revision"] "order nothing for now" => rollout_pause;
    "rollout" "resume" "ID" ["revision"] "go on, also behind a gate that was missed" => rollout_resume;
    "rollout" "abort" "ID" ["revision"] "order nothing any more" => rollout_abort;
    "rollout" "retry" "ID" ["name" "expected-hosts" "parallel" "stages" "soak" "fail-count" "fail-rate" "expires-in" "second-user" "data" "revision"] "another one where it failed" => rollout_retry;
    "rollout" "revert" "ID" ["name" "expected-hosts" "parallel" "stages" "soak" "fail-count" "fail-rate" "expires-in" "second-user" "data" "revision"] "another one, back to what each host had" => rollout_revert;
    "assignment" "create" "AGENT" ["version" "group" "watch" "name" "priority" "parallel" "stages" "soak" "fail-count" "fail-rate" "expires-in" "second-user" "dry-run" "data"] "give hosts of a group a version, now and from now on" => assignment_create;
    "assignment" "list" "" ["agent" "host" "limit"] "assignments, newest first; of a host, which one has it" => assignment_list;
    "assignment" "show" "ID" [] "one assignment, and how many hosts are right" => assignment_show;
    "assignment" "hosts" "ID" ["state" "limit"] "the hosts it had to do with, and what each waits for" => assignment_hosts;
    "assignment" "change" "ID" ["version" "watch" "name" "priority" "parallel" "stages" "soak" "fail-count" "fail-rate" "expires-in" "second-user" "data" "revision"] "another version or plan begins anew" => assignment_change;
    "assignment" "confirm" "ID" ["revision"] "agree to one that needs a second user" => assignment_confirm;
    "assignment" "pause" "ID" ["revision"] "order nothing for now; it keeps its hosts" => assignment_pause;
    "assignment" "resume" "ID" ["revision"] "go on, with fresh counts" => assignment_resume;
    "assignment" "retry" "ID" ["revision"] "try again at once where it failed, and go on" => assignment_retry;
    "assignment" "delete" "ID" ["revision"] "remove it; hosts keep what they have" => assignment_delete;
    "event" "list" "" ["host" "since" "limit"] "what happened on hosts, oldest first" => event_list;
    "event" "follow" "" ["topics"] "what changes from now on, until Ctrl-C" => event_follow;
    "user" "create" "NAME" ["role" "display-name" "scope"] "a new user with a one-time password" => user_create;
    "user" "list" "" ["limit"] "users" => user_list;
    "user" "reset" "NAME" [] "a new one-time password for a user" => user_reset;
    "user" "delete" "NAME" [] "remove a user" => user_delete;
    "api" "" "METHOD PATH" ["data" "header"] "any call, and its answer as it came" => api;
};

/// Every option of verbs.
pub(super) const OPTIONS: [Opt; 46] = options! {
    "selector" "selector" Text "TAGS" "hosts like svc=ecs,cmpt!=DB,region in (cn,eu),!old";
    "group" "" Own "GROUP" "hosts of this group, or the group itself; group add takes several";
    "expected-hosts" "expected_hosts" Number "N" "do it only when it is for as many hosts";
    "hostname" "hostname" Text "TEXT" "hosts whose names begin so; of a rollout, with * and ?";
    "search" "search" Text "TEXT" "hosts with this in their names or addresses";
    "agent" "agent" Text "AGENT" "hosts with this sub-agent";
    "agent-version" "agent_version" Text "VERSION" "in this version, with --agent";
    "agent-state" "agent_state" Text "STATE" "in this state: running, stoped, fatal or killed";
    "ip" "ip" Text "ADDRESS" "hosts with this address";
    "state" "state" Text "STATE" "hosts: new, online, late, ...; jobs: open, finished; targets: waiting, failed, ...";
    "all" "all" Flag "" "every host";
    "parallel" "parallel" Text "N" "hosts at once: a number, 10% or all [50]";
    "stages" "" Own "LIST" "hosts up to each stage, such as 1,10%,all";
    "soak" "soak" Seconds "TIME" "how long each stage but the last must stay good";
    "fail-count" "fail_count" Text "N" "more failures stop it; -1 for no such limit [0]";
    "fail-rate" "fail_rate" Number "N" "more failures than so many percent stop it";
    "priority" "priority" Text "N" "of several assignments that mean a host, the highest has it [0]";
    "second-user" "second_user" Flag "" "another user must confirm it first";
    "dry-run" "dry_run" Flag "" "only look how many hosts it means and what they would get";
    "revision" "" Own "N" "only while it is of this revision, which show and list --json say";
    "phase" "phase" Text "PHASE" "active or ended";
    "sort" "sort" Text "KEY" "hostname, created or since; -KEY the other way round";
    "format" "format" Text "FORMAT" "ndjson, a line of JSON for each, or csv [ndjson]";
    "unset" "" Own "KEYS" "tags that go: svc,cmpt";
    "limit" "" Own "N" "rows at most [1000]";
    "host" "" Own "HOST" "on, or of, this host; job and rollout create take several";
    "since" "since" Ago "TIME" "received since then: 90s, 15m, 12h, 7d";
    "topics" "topics" Text "TOPICS" "of these: host,event,job,package,group,rollout,assignment";
    "role" "role" Text "ROLE" "viewer, operator or admin";
    "scope" "scope" Scope "TAGS" "restricted to hosts with these tags";
    "tags" "tags" Text "TAGS" "tags its hosts get";
    "uses" "uses" Number "N" "how many hosts it may bring in";
    "expires-in" "expires_in" Seconds "TIME" "until then: 90s, 15m, 12h, 7d [jobs, rollouts: 7d]";
    "display-name" "display_name" Text "TEXT" "what a user or host is called";
    "notes" "notes" Text "TEXT" "what there is to know of a host";
    "description" "description" Text "TEXT" "what a group is for";
    "name" "name" Text "NAME" "of this agent, otherwise read from the file; a group's new name; a rollout's";
    "version" "version" Text "VERSION" "which version; of hosts bootagent-VERSION-ARCH";
    "os" "os" Text "OS" "linux, debian or \"debian 12\"; of hosts as they say it";
    "arch" "arch" Text "ARCH" "which architecture";
    "package" "package" Text "ID" "which uploaded package";
    "url" "url" Text "URL" "a package elsewhere";
    "checksum" "checksum" Text "SHA256:HEX" "its checksum";
    "watch" "watch" Seconds "TIME" "how long a new version is watched";
    "step" "step" Seconds "TIME" "from one status to the next (config)";
    "downgrade" "downgrade" Flag "" "an older version may replace a newer one";
};

impl Verb {
    /// `host list`
    pub(super) fn words(&self) -> String {
        format!("{} {}", self.noun, self.verb).trim_end().to_owned()
    }

    /// With what follows.
    pub(super) fn usage(&self) -> String {
        format!("{} {}", self.words(), self.operands)
            .trim_end()
            .to_owned()
    }

    /// How many operands it takes.
    pub(super) fn operand_bounds(&self) -> (usize, usize) {
        let words = self.operands.split_whitespace();
        let least = words.clone().filter(|word| !word.starts_with('[')).count();
        match self.operands.trim_end_matches(']').ends_with("...") {
            true => (least, usize::MAX),
            false => (least, words.count()),
        }
    }
}

/// What `-h` says of all this.
pub fn help() -> String {
    let mut text = String::from(
        "Asking a running server, from anywhere:\n  \
         bootserver [--server URL] [--token-file FILE] [--json] VERB...\n\n",
    );
    for verb in &VERBS {
        text.push_str(&format!("  {:<32}{}\n", verb.usage(), verb.summary));
    }
    text.push_str(REST);
    for option in &OPTIONS {
        let typed = format!("--{} {}", option.name, option.value);
        text.push_str(&format!("  {:<25}{}\n", typed.trim_end(), option.summary));
    }
    text.push_str(CODES);
    text
}

const REST: &str = "
HOST is an agentsn or a whole host name, GROUP an id or a name. Options of verbs:
  --server URL             http://HOST:PORT, https://HOST or a socket's path; else
                           BOOTSERVER_URL, else /run/bootserver/api.sock, where root needs no token
  --token-file FILE        its first line is the API token; else BOOTSERVER_TOKEN_FILE, else the
                           token in BOOTSERVER_TOKEN
  --ca-file FILE           certificates to trust beside the system's; else BOOTSERVER_CA_FILE
  --json                   one JSON document: the API's own, lists as {items, next}, what
                           was refused as its problem document; event follow: one per line
  -d, --data JSON          a body: JSON, @FILE or - (api, job, rollout, assignment create)
  -H, --header NAME:VALUE  a header more (api), such as If-Match; never a token
";

/// The end of the help.
const CODES: &str = "
Exit codes of verbs: 0 done, 1 refused or failed, 2 said wrongly, 3 not found, 4 not allowed, 5 not as
things are now (conflict), 6 no server, or one that cannot answer now.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_of_a_verb_is_known_and_every_option_has_a_verb() {
        let known = |name: &&str| {
            ["data", "header"].contains(name) || OPTIONS.iter().any(|o| o.name == *name)
        };
        for verb in &VERBS {
            assert!(verb.options.iter().all(known), "{}", verb.usage());
        }
        for option in &OPTIONS {
            let used = VERBS.iter().any(|verb| verb.options.contains(&option.name));
            assert!(used, "{}", option.name);
        }
    }
}
