//! A verdict as a sentence, in Chinese and in English.

use super::{Against, Direction, Latency, Limited, Loss, Place, Tally, Verdict};
use crate::report::{Fault, Unreachable};

/// What people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// English.
    English,
    /// Simplified Chinese.
    Chinese,
}

impl Verdict {
    /// The verdict as one sentence.
    #[must_use]
    pub fn sentence(&self, language: Language) -> String {
        let mut clauses = Vec::new();
        match &self.loss {
            Some(loss) => clauses.push(loss_clause(loss, language)),
            None => clauses.push(doubt_clause(&self.doubted, language)),
        }
        // Of a silence nobody expects the direction to be known.
        let is_partial = matches!(self.loss, Some(Loss::From { .. } | Loss::TooFew { .. }));
        if is_partial || self.direction.is_some() {
            clauses.push(direction_clause(self.direction, language));
        }
        clauses.extend(self.latency.as_ref().map(|it| latency_clause(it, language)));
        clauses.extend(self.limited.iter().map(|it| limited_clause(it, language)));
        match language {
            Language::English => format!("{}.", clauses.join("; ")),
            Language::Chinese => format!("{}。", clauses.join("；")),
        }
    }
}

fn loss_clause(loss: &Loss, language: Language) -> String {
    let chinese = language == Language::Chinese;
    match loss {
        Loss::Unmeasured if chinese => "没有向目标发出探测包".into(),
        Loss::Unmeasured => "No probe went to the target".into(),
        Loss::None { target } if chinese => format!(
            "目标无丢包（{} 个探测包全部应答，{}）",
            target.sent,
            interval(*target, language)
        ),
        Loss::None { target } => format!(
            "No loss at the target (0 of {} lost, {})",
            target.sent,
            interval(*target, language)
        ),
        Loss::From {
            after,
            by,
            exact,
            target_only,
            target,
        } => from_clause(*after, *by, *exact, *target_only, *target, language),
        Loss::TooFew { target } if chinese => {
            format!(
                "{}，包数太少，无法判断从哪一跳开始",
                lost(*target, language)
            )
        }
        Loss::TooFew { target } => format!(
            "{}; too few packets to say from which hop on",
            lost(*target, language)
        ),
        Loss::Silent {
            after,
            behind,
            before,
        } => silent_clause(*after, *behind, *before, language),
        Loss::Refused { by, reason } => {
            let (place, reason) = (shown(*by, language), refused(*reason, language));
            match language {
                Language::Chinese => format!("{place}回应{reason}，不再转发"),
                Language::English => {
                    format!("Refused: {place} answers that {reason} and goes no further")
                }
            }
        }
    }
}

fn from_clause(
    after: Place,
    by: Place,
    exact: bool,
    target_only: bool,
    target: Tally,
    language: Language,
) -> String {
    let (after, by) = (shown(after, language), shown(by, language));
    let lost = lost(target, language);
    match language {
        Language::Chinese => {
            let mut clause = format!("{lost}，始于{after}与{by}之间，并持续到目标");
            if !exact {
                clause += "（包数太少，无法再缩小范围）";
            }
            if target_only {
                clause += "（也可能是目标自身限制应答）";
            }
            clause
        }
        Language::English => {
            let mut clause = format!("{lost}, beginning between {after} and {by}");
            if target_only {
                clause += ", the target, which may also limit its own answers";
            } else {
                clause += " and continuing to the target";
            }
            if !exact {
                clause += " (too few packets to say nearer)";
            }
            clause
        }
    }
}

fn silent_clause(after: Place, behind: Tally, before: Option<Tally>, language: Language) -> String {
    let (place, next) = (shown(after, language), after.ttl + 1);
    let interval = interval(behind, language);
    let (sent, received) = (behind.sent, behind.sent - behind.lost);
    match (language, before) {
        (Language::Chinese, None) => format!(
            "从第 {next} 跳起无应答（{sent} 个探测包应答 {received} 个，{interval}），最后应答的是{place}"
        ),
        (Language::Chinese, Some(before)) => format!(
            "{place}之后全部中断（之后 {sent} 个探测包应答 {received} 个，{interval}；此前目标 {} 个应答 {} 个）",
            before.sent,
            before.sent - before.lost
        ),
        (Language::English, None) => format!(
            "Silent from hop {next} on ({received} of {sent} probes answered, {interval}); the last that answers is {place}"
        ),
        (Language::English, Some(before)) => format!(
            "Blackhole after {place}: {received} of {sent} probes answered behind it ({interval}), while the target had answered {} of {} before",
            before.sent - before.lost,
            before.sent
        ),
    }
}

fn doubt_clause(doubted: &[Fault], language: Language) -> String {
    let why: Vec<String> = doubted
        .iter()
        .map(|it| fault_clause(it, language))
        .collect();
    match language {
        Language::Chinese => format!(
            "不对网络下结论：丢包可能由本机造成（{}），请重新测量",
            why.join(",")
        ),
        Language::English => format!(
            "No verdict on the network: this machine may have made the loss itself ({}); measure again",
            why.join(", ")
        ),
    }
}

/// What this machine did to a measurement, as a clause.
#[must_use]
pub fn fault_clause(fault: &Fault, language: Language) -> String {
    let chinese = language == Language::Chinese;
    match fault {
        Fault::SocketOverflow { dropped } if chinese => {
            format!("接收缓冲区溢出，丢弃 {dropped} 个应答")
        }
        Fault::SocketOverflow { dropped } => {
            format!("the receive buffer overflowed, {dropped} answers were thrown away")
        }
        Fault::Unsent { probes, reason } if chinese => {
            format!("本机未能发出 {probes} 个探测包（{reason}），不计为丢包")
        }
        Fault::Unsent { probes, reason } => {
            format!("{probes} probes could not be sent ({reason}) and are not counted as lost")
        }
        Fault::Starved { longest_ms } if chinese => {
            format!("测量程序未得到 CPU，最长 {longest_ms} 毫秒")
        }
        Fault::Starved { longest_ms } => {
            format!("the program got no CPU for up to {longest_ms} ms")
        }
        Fault::Throttled { throttled_ms } if chinese => {
            format!("CPU 配额用尽，共被限制 {throttled_ms} 毫秒")
        }
        Fault::Throttled { throttled_ms } => {
            format!("the CPU quota was used up, {throttled_ms} ms in all")
        }
        Fault::ClockStep { step_ms } if chinese => format!("系统时钟跳变 {step_ms} 毫秒"),
        Fault::ClockStep { step_ms } => format!("the clock was set by {step_ms} ms"),
        Fault::Stretched { interval_ms } if chinese => {
            format!("超出发包预算，实际间隔为 {interval_ms} 毫秒")
        }
        Fault::Stretched { interval_ms } => {
            format!("over the budget of probes, the interval was {interval_ms} ms")
        }
        Fault::Unprivileged if chinese => "没有 CAP_NET_RAW 权限的测量".into(),
        Fault::Unprivileged => "measured without CAP_NET_RAW".into(),
    }
}

fn direction_clause(direction: Option<Direction>, language: Language) -> String {
    let clause = match (language, direction) {
        (Language::Chinese, Some(Direction::Forward)) => "两端计数表明丢包在去程",
        (Language::Chinese, Some(Direction::Back)) => "两端计数表明丢包在回程",
        (Language::Chinese, Some(Direction::Both)) => "两端计数表明去程和回程都有丢包",
        (Language::Chinese, None) => "单端测量无法判断方向",
        (Language::English, Some(Direction::Forward)) => {
            "the counts of both ends show it on the way to the target"
        }
        (Language::English, Some(Direction::Back)) => {
            "the counts of both ends show it on the way back"
        }
        (Language::English, Some(Direction::Both)) => "the counts of both ends show it both ways",
        (Language::English, None) => "direction unknown from one end",
    };
    clause.to_owned()
}

fn latency_clause(it: &Latency, language: Language) -> String {
    let millis = |micros: f64| format!("{:.1}", micros / 1000.0);
    let (after, by) = (shown(it.after, language), shown(it.by, language));
    let (excess, reference) = (millis(it.excess), millis(it.reference));
    let (low, high) = (millis(it.interval.0), millis(it.interval.1));
    match language {
        Language::Chinese => {
            let than = match it.against {
                Against::Baseline => "此前",
                Against::Best => "本次最低值",
            };
            format!(
                "延时比{than}（{reference} 毫秒）高 {excess} 毫秒（95% 置信区间 {low}–{high} 毫秒），始于{after}与{by}之间，并持续到目标"
            )
        }
        Language::English => {
            let than = match it.against {
                Against::Baseline => "before",
                Against::Best => "at best",
            };
            format!(
                "round trips are {excess} ms (95 % CI {low}–{high} ms) above the {reference} ms {than}, beginning between {after} and {by} and continuing to the target"
            )
        }
    }
}

fn limited_clause(it: &Limited, language: Language) -> String {
    let place = shown(it.place, language);
    let Tally { lost, sent } = it.tally;
    match language {
        Language::Chinese => {
            format!(
                "{place}仅限制自身 ICMP 应答（{sent} 个缺 {lost} 个，其后各跳更少），并非链路丢包"
            )
        }
        Language::English => format!(
            "{place} only limits its own ICMP answers ({lost} of {sent} missing, fewer behind it), which is no loss of the path"
        ),
    }
}

fn lost(tally: Tally, language: Language) -> String {
    let (share, interval) = (percent(tally.share()), interval(tally, language));
    let Tally { lost, sent } = tally;
    match language {
        Language::Chinese => format!("丢包率 {share}%（{sent} 个丢 {lost} 个，{interval}）"),
        Language::English => format!("Loss of {share} % ({lost} of {sent}, {interval})"),
    }
}

fn interval(tally: Tally, language: Language) -> String {
    let (low, high) = tally.interval();
    let (low, high) = (percent(low), percent(high));
    match language {
        Language::Chinese => format!("丢包率 95% 置信区间 {low}–{high}%"),
        Language::English => format!("95 % CI of the loss {low}–{high} %"),
    }
}

/// One decimal below ten percent, none above.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 9.95 {
        format!("{percent:.1}")
    } else {
        format!("{percent:.0}")
    }
}

fn shown(place: Place, language: Language) -> String {
    let address = place.address.map(|it| it.to_string());
    match (language, place.ttl, address) {
        (Language::Chinese, 0, _) => "本机".into(),
        (Language::English, 0, _) => "this machine".into(),
        (Language::Chinese, ttl, Some(address)) => format!("第 {ttl} 跳（{address}）"),
        (Language::Chinese, ttl, None) => format!("第 {ttl} 跳"),
        (Language::English, ttl, Some(address)) => format!("hop {ttl} ({address})"),
        (Language::English, ttl, None) => format!("hop {ttl}"),
    }
}

fn refused(reason: Unreachable, language: Language) -> String {
    match (language, reason) {
        (Language::Chinese, Unreachable::Network) => "网络不可达".into(),
        (Language::Chinese, Unreachable::Host) => "主机不可达".into(),
        (Language::Chinese, Unreachable::Prohibited) => "被管理策略禁止".into(),
        (Language::Chinese, Unreachable::Other(code)) => format!("不可达（代码 {code}）"),
        (Language::English, Unreachable::Network) => "the network is unreachable".into(),
        (Language::English, Unreachable::Host) => "the host is unreachable".into(),
        (Language::English, Unreachable::Prohibited) => "an administrator forbids it".into(),
        (Language::English, Unreachable::Other(code)) => {
            format!("the target is unreachable (code {code})")
        }
    }
}
