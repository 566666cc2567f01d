//! Bodies in blocks, right and wrong (RFC 7959).

use std::sync::Arc;

use super::{Served, case, format, is, is_one_of, lives, open, readable};
use crate::{
    case::Case,
    coaps::{Answer, Ask, CoapError, Coaps, Code, Message, Reply, block, option, size, uint},
    evidence::Recorder,
    outcome::{Finding, Told, must},
};

pub(super) fn cases<K: Served>() -> Vec<Case> {
    vec![
        case::<K, _, _>(
            "rfc7959-2.5/every-size",
            "a body in blocks of 16 to 1024 octets is put together",
            &["ESC-036", "COA-056", "COA-061"],
            every_size,
        )
        .tags(&["blocks"]),
        case::<K, _, _>(
            "rfc7959-2.4/every-size",
            "an answer comes in blocks of the size that is asked for, or smaller ones",
            &["COA-053", "CBR-081", "ESC-036"],
            answers_of_every_size,
        )
        .tags(&["blocks"]),
        case::<K, _, _>(
            "rfc7959-2.3/acknowledged",
            "each block is acknowledged with its number and its size or a smaller one",
            &["COA-051", "COA-056"],
            acknowledged,
        )
        .tags(&["blocks"]),
        case::<K, _, _>(
            "rfc7959-2.7/both-ways",
            "a body in blocks gets an answer in blocks, and asking for the rest does nothing again",
            &["COA-062", "COA-063"],
            both_ways,
        )
        .tags(&["blocks"]),
        case::<K, _, _>(
            "rfc7959-2.2/size-7",
            "the size that is reserved gets 4.00",
            &["COA-049"],
            size_7,
        )
        .tags(&["blocks", "hostile"]),
        case::<K, _, _>(
            "rfc7959-2.3/short-block",
            "a block that is not the last and not full gets 4.00",
            &["COA-050"],
            short_block,
        )
        .tags(&["blocks", "hostile"]),
        case::<K, _, _>(
            "rfc7959-2.3/other-format",
            "blocks with different Content-Formats are not put together",
            &["COA-052"],
            other_format,
        )
        .tags(&["blocks", "hostile"]),
        case::<K, _, _>(
            "rfc7959-2.4/beyond",
            "a block beyond the end of an answer gets 4.00 or 4.02",
            &["COA-054"],
            beyond,
        )
        .tags(&["blocks", "hostile"]),
        case::<K, _, _>(
            "rfc7959-2.5/missing",
            "a last block without those before gets 4.08",
            &["COA-057"],
            missing,
        )
        .tags(&["blocks", "hostile"]),
        case::<K, _, _>(
            "rfc7959-2.5/out-of-order",
            "a block out of order gets 4.08, or is kept",
            &["COA-058"],
            out_of_order,
        )
        .tags(&["blocks", "hostile"]),
        case::<K, _, _>(
            "rfc7959-2.5/restart",
            "the first block again begins anew",
            &["COA-059"],
            restart,
        )
        .tags(&["blocks"]),
        case::<K, _, _>(
            "rfc7959-2.9.3/too-large",
            "a body that does not end gets 4.13",
            &["COA-064", "COA-066", "COA-035"],
            too_large,
        )
        .tags(&["blocks", "hostile"]),
        case::<K, _, _>(
            "rfc7959-4/size1",
            "Size1 is a hint and nothing to make room by",
            &["COA-065"],
            size1,
        )
        .tags(&["blocks", "hostile"]),
        case::<K, _, _>(
            "rfc7959-4/size2",
            "who asks for Size2 is told it",
            &["CBR-082", "COA-065"],
            size2,
        )
        .tags(&["blocks"])
        .needs(&["size2"]),
        case::<K, _, _>(
            "rfc7959-2.4/etag",
            "every block of an answer has the same ETag",
            &["COA-055"],
            etags,
        )
        .tags(&["blocks"])
        .needs(&["etag"]),
        case::<K, _, _>(
            "rfc9175-3.3/request-tags",
            "blocks with different Request-Tags are not put together",
            &["COA-073"],
            request_tags,
        )
        .tags(&["blocks", "hostile"]),
        case::<K, _, _>(
            "rfc7959-7/half-bodies",
            "five hundred bodies that were begun do not keep a whole one out",
            &["COA-066", "COA-060"],
            half_bodies,
        )
        .tags(&["blocks", "hostile"]),
        case::<K, _, _>(
            "rfc7959-2.5/same-again",
            "a block that comes again within its transfer changes nothing",
            &["COA-012", "COA-056"],
            same_again,
        )
        .tags(&["blocks", "hostile"]),
    ]
}

async fn begin<K: Served>(kit: &K, record: &Recorder) -> Result<(Coaps, Ask), Finding> {
    let (identity, deed) = kit.deed(record).await?;
    let client = kit.base().client.with_identity(&identity);
    Ok((Coaps::open(&client, record).await?, deed))
}

/// One block of a body.
fn piece(coaps: &mut Coaps, ask: &Ask, number: usize, exponent: u8) -> Message {
    let mut message = coaps.message(ask);
    let from = number * size(exponent);
    let to = (from + size(exponent)).min(ask.payload.len());
    message.payload = ask.payload.get(from..to).unwrap_or_default().to_vec();
    let more = to < ask.payload.len();
    message.option(
        option::BLOCK1,
        block(u32::try_from(number).unwrap_or_default(), more, exponent),
    )
}

fn continues(reply: &Reply, what: &str) -> Told {
    must(
        reply.message.code == Code::CONTINUE,
        format!("{what} was answered {}", reply.message.code),
    )
}

async fn every_size<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    for exponent in 0..=6 {
        let (mut coaps, deed) = begin(&*kit, &record).await?;
        let answer = coaps.ask(&deed.blocks(exponent)).await?;
        kit.was_done(&answer)?;
        for reply in &answer.replies {
            if let Some((_, _, found)) = reply.message.block(option::BLOCK2) {
                must(
                    found <= exponent,
                    format!(
                        "blocks of {} octets were asked for, {} came",
                        size(exponent),
                        size(found)
                    ),
                )?;
            }
        }
    }
    Ok(())
}

async fn answers_of_every_size<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    let whole = coaps.ask(&readable(&*kit)).await?;
    is(&whole, Code::CONTENT, "crts")?;
    for exponent in 0..=6 {
        // That more follows is not for the client to say, and is ignored.
        let mut ask = readable(&*kit);
        if exponent % 2 == 1 {
            ask = ask.option(option::BLOCK2, block(0, true, exponent));
        } else {
            ask.wanted = Some(exponent);
        }
        let mut message = coaps.message(&ask);
        if let Some(wanted) = ask.wanted {
            message = message.option(option::BLOCK2, block(0, false, wanted));
        }
        let first = coaps.exchange(&message).await?;
        if let Some((_, _, found)) = first.message.block(option::BLOCK2) {
            must(
                found <= exponent,
                format!(
                    "{} octets were asked for, {} came",
                    size(exponent),
                    size(found)
                ),
            )?;
        } else {
            must(
                first.message.payload.len() <= size(exponent),
                "an answer that is longer than what was asked for has no Block2",
            )?;
        }
        let answer = coaps.ask(&readable(&*kit).blocks(exponent)).await?;
        must(
            answer.payload == whole.payload,
            format!("in blocks of {} octets it is another body", size(exponent)),
        )?;
    }
    Ok(())
}

async fn acknowledged<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let (mut coaps, deed) = begin(&*kit, &record).await?;
    let exponent = 3;
    let count = deed.payload.len().div_ceil(size(exponent));
    for number in 0..count {
        let message = piece(&mut coaps, &deed, number, exponent);
        let reply = coaps.exchange(&message).await?;
        let (found, _, smaller) = reply
            .message
            .block(option::BLOCK1)
            .ok_or_else(|| Finding::fail(format!("the answer to block {number} has no Block1")))?;
        must(
            found == number as u64 && smaller <= exponent,
            format!(
                "block {number} was acknowledged as {found} of size {}",
                size(smaller)
            ),
        )?;
        if number + 1 < count {
            continues(&reply, &format!("block {number}"))?;
            if smaller < exponent {
                return Ok(());
            }
        } else {
            must(
                reply.message.code.is_success() && reply.message.code != Code::CONTINUE,
                format!("the last block was answered {}", reply.message.code),
            )?;
        }
    }
    Ok(())
}

async fn both_ways<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let (mut coaps, deed) = begin(&*kit, &record).await?;
    let first = coaps.ask(&deed.clone().blocks(2)).await?;
    kit.was_done(&first)?;
    must(
        first.replies.iter().any(|reply| {
            reply
                .message
                .block(option::BLOCK2)
                .is_some_and(|(_, more, _)| more)
        }),
        "the answer did not come in blocks of 64 octets",
    )?;
    // The whole again: the same, because it was done once.
    let second = coaps.ask(&deed.blocks(6)).await?;
    kit.was_done(&second)?;
    must(
        same(&first, &second),
        "the same request got another answer: asking for blocks did something again",
    )
}

fn same(one: &Answer, other: &Answer) -> bool {
    one.payload == other.payload
}

async fn size_7<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let (mut coaps, deed) = begin(&*kit, &record).await?;
    let mut message = coaps.message(&deed).option(option::BLOCK1, vec![0x0f]);
    message.payload = vec![0x55; 1024];
    let reply = coaps.exchange(&message).await?;
    must(
        matches!(reply.message.code, Code::BAD_REQUEST | Code::BAD_OPTION),
        format!(
            "Block1 of the reserved size was answered {}",
            reply.message.code
        ),
    )?;
    let mut coaps = open(&*kit, &record).await?;
    let message = coaps
        .message(&readable(&*kit))
        .option(option::BLOCK2, vec![0x07]);
    let reply = coaps.exchange(&message).await?;
    must(
        matches!(reply.message.code, Code::BAD_REQUEST | Code::BAD_OPTION),
        format!(
            "Block2 of the reserved size was answered {}",
            reply.message.code
        ),
    )?;
    lives(&*kit, &mut coaps).await
}

async fn short_block<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    for change in [-1_i32, 1] {
        let (mut coaps, deed) = begin(&*kit, &record).await?;
        let mut message = piece(&mut coaps, &deed, 0, 2);
        if change < 0 {
            message.payload.pop();
        } else {
            message.payload.push(0);
        }
        let reply = coaps.exchange(&message).await?;
        must(
            matches!(
                reply.message.code,
                Code::BAD_REQUEST | Code::BAD_OPTION | Code::INCOMPLETE
            ),
            format!(
                "{} octets in a block of 64 were answered {}",
                message.payload.len(),
                reply.message.code
            ),
        )?;
    }
    super::serves(&*kit, &record).await
}

async fn other_format<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let (mut coaps, deed) = begin(&*kit, &record).await?;
    let count = deed.payload.len().div_ceil(64);
    let first = piece(&mut coaps, &deed, 0, 2);
    continues(&coaps.exchange(&first).await?, "the first block")?;
    let wrong = deed
        .clone()
        .without(option::CONTENT_FORMAT)
        .option(option::CONTENT_FORMAT, uint(u64::from(format::CBOR)));
    for number in 1..count {
        let message = piece(&mut coaps, &wrong, number, 2);
        let reply = coaps.exchange(&message).await?;
        if reply.message.code.is_refusal() {
            return Ok(());
        }
        continues(&reply, &format!("block {number}"))?;
    }
    Err(Finding::fail("the blocks were put together"))
}

async fn beyond<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    for number in [1_000, 0xf_ffff] {
        let message = coaps
            .message(&readable(&*kit))
            .option(option::BLOCK2, block(number, false, 2));
        let reply = coaps.exchange(&message).await?;
        must(
            matches!(reply.message.code, Code::BAD_REQUEST | Code::BAD_OPTION),
            format!("block {number} was answered {}", reply.message.code),
        )?;
    }
    lives(&*kit, &mut coaps).await
}

async fn missing<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let (mut coaps, deed) = begin(&*kit, &record).await?;
    let last = deed.payload.len().div_ceil(32) - 1;
    // None at all before it.
    let message = piece(&mut coaps, &deed, last, 1);
    let reply = coaps.exchange(&message).await?;
    must(
        reply.message.code == Code::INCOMPLETE,
        format!("the last block alone was answered {}", reply.message.code),
    )?;
    // One left out.
    let (mut coaps, deed) = begin(&*kit, &record).await?;
    let first = piece(&mut coaps, &deed, 0, 1);
    continues(&coaps.exchange(&first).await?, "the first block")?;
    let message = piece(&mut coaps, &deed, last, 1);
    let reply = coaps.exchange(&message).await?;
    must(
        reply.message.code == Code::INCOMPLETE,
        format!(
            "the last block after the first was answered {}",
            reply.message.code
        ),
    )
}

async fn out_of_order<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let (mut coaps, deed) = begin(&*kit, &record).await?;
    let first = piece(&mut coaps, &deed, 0, 1);
    continues(&coaps.exchange(&first).await?, "the first block")?;
    let message = piece(&mut coaps, &deed, 3, 1);
    let reply = coaps.exchange(&message).await?;
    must(
        matches!(reply.message.code, Code::INCOMPLETE | Code::CONTINUE),
        format!("block 3 after block 0 was answered {}", reply.message.code),
    )
}

async fn restart<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let (mut coaps, deed) = begin(&*kit, &record).await?;
    for number in 0..2 {
        let message = piece(&mut coaps, &deed, number, 2);
        continues(&coaps.exchange(&message).await?, &format!("block {number}"))?;
    }
    let answer = coaps.ask(&deed.blocks(2)).await?;
    kit.was_done(&answer)
}

async fn same_again<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let (mut coaps, deed) = begin(&*kit, &record).await?;
    let count = deed.payload.len().div_ceil(64);
    let mut last = None;
    for number in 0..count {
        let message = piece(&mut coaps, &deed, number, 2);
        let one = coaps.exchange(&message).await?;
        let two = coaps.exchange(&message).await?;
        must(
            one.message.code == two.message.code,
            format!(
                "block {number} was answered {} and then {}",
                one.message.code, two.message.code
            ),
        )?;
        last = Some(one);
    }
    let code = last.map(|reply| reply.message.code);
    must(
        code == Some(Code::CHANGED),
        format!("the last block was answered {code:?}"),
    )
}

async fn too_large<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    const BLOCKS_MAX: u32 = 2048;
    let (mut coaps, deed) = begin(&*kit, &record).await?;
    let mut number = 0;
    record.note("blocks of 1024 octets, of which none is the last");
    loop {
        let mut message = coaps
            .message(&deed)
            .option(option::BLOCK1, block(number, true, 6));
        message.payload = vec![0x55; 1024];
        let reply = coaps.exchange(&message).await?;
        match reply.message.code {
            Code::CONTINUE if number < BLOCKS_MAX => number += 1,
            Code::CONTINUE => {
                return Err(Finding::fail("two million octets were taken"));
            }
            Code::TOO_LARGE => break,
            other => {
                return Err(Finding::fail(format!(
                    "block {number} was answered {other}"
                )));
            }
        }
    }
    let mut coaps = open(&*kit, &record).await?;
    lives(&*kit, &mut coaps).await
}

async fn size1<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let (mut coaps, deed) = begin(&*kit, &record).await?;
    let message =
        piece(&mut coaps, &deed, 0, 2).option(option::SIZE1, vec![0xff, 0xff, 0xff, 0xff]);
    let reply = coaps.exchange(&message).await?;
    must(
        matches!(reply.message.code, Code::CONTINUE | Code::TOO_LARGE),
        format!("it was answered {}", reply.message.code),
    )?;
    super::serves(&*kit, &record).await
}

async fn size2<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    let whole = coaps.ask(&readable(&*kit)).await?;
    let message = coaps
        .message(&readable(&*kit))
        .option(option::BLOCK2, block(0, false, 2))
        .option(option::SIZE2, Vec::new());
    let reply = coaps.exchange(&message).await?;
    must(
        reply.message.uint(option::SIZE2) == Some(whole.payload.len() as u64),
        format!(
            "Size2 is {:?}, the body has {} octets",
            reply.message.uint(option::SIZE2),
            whole.payload.len()
        ),
    )
}

async fn etags<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let mut coaps = open(&*kit, &record).await?;
    let answer = coaps.ask(&readable(&*kit).blocks(2)).await?;
    let mut tags: Vec<_> = answer
        .replies
        .iter()
        .map(|reply| reply.message.get(option::ETAG))
        .collect();
    tags.dedup();
    must(
        matches!(tags.as_slice(), [Some(_)]),
        "they differ, or are missing",
    )
}

async fn request_tags<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    let (mut coaps, deed) = begin(&*kit, &record).await?;
    let count = deed.payload.len().div_ceil(64);
    let tagged = |tag: u8| deed.clone().option(option::REQUEST_TAG, vec![tag]);
    let first = piece(&mut coaps, &tagged(1), 0, 2);
    continues(&coaps.exchange(&first).await?, "the first block")?;
    for number in 1..count {
        let message = piece(&mut coaps, &tagged(2), number, 2);
        let reply = coaps.exchange(&message).await?;
        if reply.message.code.is_refusal() {
            return Ok(());
        }
        continues(&reply, &format!("block {number}"))?;
    }
    Err(Finding::fail("the blocks were put together"))
}

async fn half_bodies<K: Served>(kit: Arc<K>, record: Recorder) -> Told {
    const BODIES: u16 = 500;
    let (mut coaps, deed) = begin(&*kit, &record).await?;
    for number in 0..BODIES {
        let ask = deed
            .clone()
            .option(option::REQUEST_TAG, number.to_be_bytes().to_vec());
        let message = piece(&mut coaps, &ask, 0, 2);
        match coaps.exchange(&message).await {
            Ok(reply) => must(
                matches!(
                    reply.message.code,
                    Code::CONTINUE | Code::TOO_LARGE | Code::INCOMPLETE | Code::UNAVAILABLE
                ),
                format!("body {number} was answered {}", reply.message.code),
            )?,
            Err(CoapError::Silence | CoapError::Reset) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let answer = coaps.ask(&deed.blocks(2)).await?;
    is_one_of(&answer, &[Code::CHANGED], "a whole body")?;
    kit.was_done(&answer)
}
