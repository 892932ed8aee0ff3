//! From OpenMetrics, which the library writes, to the older text format, which
//! every Prometheus, agent and checker reads: there a counter's family has the
//! name of its sample, and there are no units and no end mark.

/// Rewrites the descriptions; the samples are the same in both.
pub(super) fn from_open_metrics(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // It stands before the type, and has to know it.
    let mut help = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take() {
                out.push_str(&format!("# HELP {name}{suffix} {help}\n"));
            }
            out.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_described_by_the_name_of_its_sample() {
        let open = "# HELP a Words here.\n# TYPE a counter\na_total{b=\"c\"} 1\n\
                    # HELP d_seconds More.\n# TYPE d_seconds histogram\n# UNIT d_seconds seconds\n\
                    d_seconds_sum 0.5\n# EOF\n";
        assert_eq!(
            from_open_metrics(open),
            "# HELP a_total Words here.\n# TYPE a_total counter\na_total{b=\"c\"} 1\n\
             # HELP d_seconds More.\n# TYPE d_seconds histogram\nd_seconds_sum 0.5\n"
        );
    }
}
