"""One frame of a search through a lexicon and a grammar, for all paths of all utterances.

Paths stand at states: utterance, node of the trie, context of the grammar, and memory, the last
tokens of the path as one number. See ``zipasr.search.graph_search`` for what is searched. What is
given to the loops:

    trie      first, tokens, nodes and words, as in ``Trie``
    grammar   where the n-grams of each context begin (C + 1,); keys, log_probs, after, backoffs
              and shorter, as in ``NgramLm``, the numbers of the words, how many the model has,
              whether no path backs off beside an n-gram, and the weight; with no keys all words
              are alike
    rules     bits of a token in a memory, mask of a memory, whether a token may go on for more
              frames, blank
    limits    beam, states and memories of an utterance
    out       arcs (A, 5): source, target, token, word, and by what those of a source are ordered:
              first how often the grammar backed off, then as in the trie; values (A, 2): sound and
              grammar;
              states (M, 4) and their scores (M,); a hash table of the states, -1 everywhere, of
              which the length is a power of two above M; the slot (M,) of each state in it
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from zipasr.kernels.availability import inner_loop, loop

NONE = -1
LN10 = math.log(10.0)
_NUM_BINS = 64  # of scores
_ARC_BITS = 40  # of the number of an arc of the trie


@loop
def search_frame(
    states: Any,
    scores: Any,
    table: Any,
    rows: Any,
    trie: Any,
    grammar: Any,
    rules: Any,
    limits: Any,
    out: Any,
) -> Any:
    """Follow all paths through a frame.

    Args:
        states: (S, 4), those of an utterance together.
        scores: (S,).
        table: (R, V) log-probabilities.
        rows: (S,) row of each state.
        trie: see above, and so on.
        grammar: all words, and how they follow each other.
        rules: which symbols may follow each other.
        limits: what is kept.
        out: what is found.

    Returns:
        How many arcs and states are in ``out``; -1 and -1 where it is too small.
    """
    counts = np.zeros(2, np.int64)
    first = 0
    while first < len(states):
        last = first
        while last < len(states) and states[last, 0] == states[first, 0]:
            last += 1
        arcs_before, states_before = counts[0], counts[1]
        # The best score, what is worse than all that is kept, and how that is known.
        top = np.array([-np.inf, -np.inf, states_before, limits[1]])
        is_done = _follow(
            states,
            scores,
            table,
            rows,
            trie,
            grammar,
            rules,
            limits[0],
            out,
            counts,
            top,
            first,
            last,
        )
        for state in range(states_before, counts[1]):
            out[4][out[5][state]] = NONE
        if not is_done:
            counts[:] = -1
            return counts
        _prune(out, counts, arcs_before, states_before, scores, top[0], limits)
        first = last
    return counts


@inner_loop
def _wait(
    states: Any,
    scores: Any,
    table: Any,
    rows: Any,
    rules: Any,
    beam: Any,
    out: Any,
    counts: Any,
    top: Any,
    first: Any,
    last: Any,
) -> Any:
    """Take the steps of an utterance's paths without a new token; False for no room."""
    _, _, repeats, blank = rules
    for source in range(first, last):
        node, context, memory = states[source, 1], states[source, 2], states[source, 3]
        row = rows[source]
        symbols = (NONE, NONE, 0)
        place = (states[source, 0], node, context, blank if repeats else memory)
        given = (np.float64(table[row, blank]), 0.0)
        if not _reach(source, place, symbols, given, scores, beam, out, counts, top):
            return False
        if repeats and memory != blank:
            place = (states[source, 0], node, context, memory)
            given = (np.float64(table[row, memory]), 0.0)
            if not _reach(source, place, symbols, given, scores, beam, out, counts, top):
                return False
    return True


@loop
def _follow(
    states: Any,
    scores: Any,
    table: Any,
    rows: Any,
    trie: Any,
    grammar: Any,
    rules: Any,
    beam: Any,
    out: Any,
    counts: Any,
    top: Any,
    first: Any,
    last: Any,
) -> Any:
    """Take all steps of an utterance's paths; False where ``out`` is too small."""
    if not _wait(states, scores, table, rows, rules, beam, out, counts, top, first, last):
        return False
    roots, root_row = np.empty(0, np.int64), -1
    next_size = 2 * int(top[3])
    for source in range(first, last):
        next_size = _raise_floor(out[3], counts[1], top, next_size)
        if states[source, 1] == 0:
            if rows[source] != root_row:
                root_row = rows[source]
                roots = _roots_by_score(table[root_row], trie)
            is_done = _leave_root(
                source,
                roots,
                states,
                scores,
                table[root_row],
                trie,
                grammar,
                rules,
                beam,
                out,
                counts,
                top,
            )
        else:
            is_done = _leave_node(
                source,
                states,
                scores,
                table[rows[source]],
                trie,
                grammar,
                rules,
                beam,
                out,
                counts,
                top,
            )
        if not is_done:
            return False
    return True


@loop
def _roots_by_score(table: Any, trie: Any) -> Any:
    """List the arcs of the root, the most probable first: most are hopeless for most states."""
    return np.argsort(-table[trie[1][: trie[0][1]]], kind="mergesort")


@inner_loop
def _leave_root(
    source: Any,
    roots: Any,
    states: Any,
    scores: Any,
    table: Any,
    trie: Any,
    grammar: Any,
    rules: Any,
    beam: Any,
    out: Any,
    counts: Any,
    top: Any,
) -> Any:
    """Take the arcs of the root that stay within the beam; False for no room."""
    for k in range(len(roots)):
        sound = np.float64(table[trie[1][roots[k]]])
        if scores[source] + sound < _floor(top, beam):
            break
        if not _grow(
            source, roots[k], sound, states, scores, trie, grammar, rules, beam, out, counts, top
        ):
            return False
    return True


@inner_loop
def _leave_node(
    source: Any,
    states: Any,
    scores: Any,
    table: Any,
    trie: Any,
    grammar: Any,
    rules: Any,
    beam: Any,
    out: Any,
    counts: Any,
    top: Any,
) -> Any:
    """Take the arcs of a node that stay within the beam; False for no room."""
    node = states[source, 1]
    for arc in range(trie[0][node], trie[0][node + 1]):
        sound = np.float64(table[trie[1][arc]])
        # The grammar takes away: what is out of the beam without it need not be asked for.
        if scores[source] + sound >= _floor(top, beam) and not _grow(
            source, arc, sound, states, scores, trie, grammar, rules, beam, out, counts, top
        ):
            return False
    return True


@inner_loop
def _grow(
    source: Any,
    arc: Any,
    sound: Any,
    states: Any,
    scores: Any,
    trie: Any,
    grammar: Any,
    rules: Any,
    beam: Any,
    out: Any,
    counts: Any,
    top: Any,
) -> Any:
    """Take an arc of the trie, and where a word ends, those of the grammar; False for no room."""
    bits, mask, repeats, _ = rules
    token, word, memory = trie[1][arc], trie[3][arc], states[source, 3]
    if repeats and token == memory:
        return True
    owner, node, context = states[source, 0], trie[2][arc], states[source, 2]
    after_token = ((memory << bits) | token) & mask
    firsts, keys, log_probs, after, backoffs, shorter, numbers, num_words, is_exact, scale = grammar
    if word == NONE or len(keys) == 0:
        place = (owner, node, context, after_token)
        return _reach(
            source, place, (token, word, arc + 1), (sound, 0.0), scores, beam, out, counts, top
        )
    total, rank = 0.0, (1 << _ARC_BITS) + arc + 1
    while True:
        key = context * num_words + numbers[word]
        at = _find(keys, firsts[context], firsts[context + 1], key)
        if at >= 0:
            place = (owner, node, np.int64(after[at]), after_token)
            given = (sound, scale * (total + log_probs[at]) * LN10)
            if not _reach(
                source, place, (token, word, rank), given, scores, beam, out, counts, top
            ):
                return False
        if context == 0 or (is_exact and at >= 0):
            return True
        total += backoffs[context]
        context = np.int64(shorter[context])
        rank += 1 << _ARC_BITS


@inner_loop
def _find(keys: Any, low: Any, high: Any, key: Any) -> Any:
    """Place of a key from ``low`` to before ``high``, -1 where it is not."""
    last = high
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low if low < last and keys[low] == key else -1


@inner_loop
def _reach(
    source: Any,
    place: Any,
    symbols: Any,
    given: Any,
    scores: Any,
    beam: Any,
    out: Any,
    counts: Any,
    top: Any,
) -> Any:
    """Write an arc, and the state that it leads to; False where there is no room.

    ``place`` is that state, ``symbols`` are the last three numbers of an arc, ``given`` its values.
    """
    arcs, values, states, best, slots, slot_of = out
    value = scores[source] + given[0] + given[1]
    if not value >= _floor(top, beam):
        return True
    slot = _slot(place, states, slots)
    target = slots[slot]
    if counts[0] == len(arcs) or (target < 0 and counts[1] == len(states)):
        return False
    if target < 0:
        target = counts[1]
        counts[1] += 1
        states[target, 0], states[target, 1] = place[0], place[1]
        states[target, 2], states[target, 3] = place[2], place[3]
        best[target] = value
        slots[slot], slot_of[target] = target, slot
    best[target] = max(best[target], value)
    top[0] = max(top[0], value)
    arc = counts[0]
    arcs[arc, 0], arcs[arc, 1], arcs[arc, 2] = source, target, symbols[0]
    arcs[arc, 3], arcs[arc, 4] = symbols[1], symbols[2]
    values[arc, 0], values[arc, 1] = given
    counts[0] += 1
    return True


@inner_loop
def _floor(top: Any, beam: Any) -> Any:
    """The score that a step needs."""
    return max(top[0] - beam, top[1])


@loop
def _raise_floor(best: Any, num_states: Any, top: Any, next_size: Any) -> Any:
    """Say what is worse than as many states as may be kept, now and then."""
    first, most = int(top[2]), int(top[3])
    num = num_states - first
    if num < next_size:
        return next_size
    top[1] = np.partition(best[first:num_states], num - most)[num - most]
    return num + most


@inner_loop
def _slot(place: Any, states: Any, slots: Any) -> Any:
    """Slot of a state, or the empty one where it belongs."""
    mark = place[1] * 40503 + place[2] * 9973 + (place[3] & 0xFFFFFFFF) * 31337
    slot = (((mark ^ (mark >> 15)) & 0x7FFFFFFF) * 2654435761 >> 12) & (len(slots) - 1)
    while slots[slot] >= 0:
        there = slots[slot]
        if (
            states[there, 1] == place[1]
            and states[there, 2] == place[2]
            and states[there, 3] == place[3]
        ):
            break
        slot = (slot + 1) & (len(slots) - 1)
    return slot


@loop
def _prune(
    out: Any,
    counts: Any,
    arcs_before: Any,
    states_before: Any,
    scores: Any,
    top: Any,
    limits: Any,
) -> None:
    """Drop states of an utterance, and the arcs that lead to them or are out of the beam."""
    arcs, values, states, best, _, _ = out
    beam, max_states, max_memories = limits
    num = counts[1] - states_before
    target = np.full(num, NONE, np.int64)
    floor = top - beam
    if max_memories >= 0:
        kept = _best_memories(best[states_before : counts[1]], states, states_before, floor, limits)
    else:
        kept = _best_states(best[states_before : counts[1]], floor, max_states)
    num_kept = len(kept)
    states[states_before : states_before + num_kept] = states[states_before + kept]
    best[states_before : states_before + num_kept] = best[states_before + kept]
    for new in range(num_kept):
        target[kept[new]] = states_before + new
    counts[1] = states_before + num_kept
    _keep_arcs(arcs, values, counts, arcs_before, states_before, target, scores, floor)


@loop
def _best_states(scores: Any, floor: Any, most: Any) -> Any:
    """List states not below a floor, at most so many: of equal ones, the first; good ones first."""
    num_last = len(scores)
    if len(scores) > most:
        least = np.partition(scores, len(scores) - most)[len(scores) - most]
        if least >= floor:
            floor = least
            num_last = most - (scores > least).sum()
    # Sorted roughly: the floor of the next frame then rises soon.
    highest = scores.max() if len(scores) else 0.0
    width = max(highest - floor, 1e-9) / (_NUM_BINS - 1)
    bins, sizes = np.empty(len(scores), np.int64), np.zeros(_NUM_BINS + 1, np.int64)
    for n in range(len(scores)):
        is_kept = scores[n] >= floor
        if is_kept and scores[n] == floor:
            is_kept = num_last > 0
            num_last -= 1
        bins[n] = min(int((highest - scores[n]) / width), _NUM_BINS - 1) if is_kept else _NUM_BINS
        sizes[bins[n]] += 1
    firsts = np.cumsum(sizes) - sizes
    kept = np.empty(len(scores) - sizes[_NUM_BINS], np.int64)
    for n in range(len(scores)):
        if bins[n] < _NUM_BINS:
            kept[firsts[bins[n]]] = n
            firsts[bins[n]] += 1
    return kept


@loop
def _best_memories(scores: Any, states: Any, first: Any, floor: Any, limits: Any) -> Any:
    """List states not below a floor, best first, as long as they remember few enough things."""
    _, max_states, max_memories = limits
    kept, memories = np.empty(len(scores), np.int64), np.empty(len(scores), np.int64)
    num_kept = num_memories = 0
    for n in np.argsort(-scores, kind="mergesort"):
        if scores[n] < floor or num_kept == max_states:
            break
        memory = states[first + n, 3]
        is_new = not (memories[:num_memories] == memory).any()
        if is_new and num_memories == max_memories:
            continue
        memories[num_memories] = memory
        num_memories += is_new
        kept[num_kept] = n
        num_kept += 1
    return kept[:num_kept]


@inner_loop
def _keep_arcs(
    arcs: Any,
    values: Any,
    counts: Any,
    arcs_before: Any,
    states_before: Any,
    target: Any,
    scores: Any,
    floor: Any,
) -> None:
    num = arcs_before
    for arc in range(arcs_before, counts[0]):
        to = target[arcs[arc, 1] - states_before]
        value = scores[arcs[arc, 0]] + values[arc, 0] + values[arc, 1]
        if to == NONE or value < floor:
            continue
        # Of a state first come arcs without a word, then words by how often the grammar backed off.
        source, token, word, rank = arcs[arc, 0], arcs[arc, 2], arcs[arc, 3], arcs[arc, 4]
        sound, given, at = values[arc, 0], values[arc, 1], num
        while at > arcs_before and arcs[at - 1, 0] == source and arcs[at - 1, 4] > rank:
            for k in range(5):
                arcs[at, k] = arcs[at - 1, k]
            values[at, 0], values[at, 1] = values[at - 1, 0], values[at - 1, 1]
            at -= 1
        arcs[at, 0], arcs[at, 1], arcs[at, 2] = source, to, token
        arcs[at, 3], arcs[at, 4] = word, rank
        values[at, 0], values[at, 1] = sound, given
        num += 1
    counts[0] = num


@loop
def prune_frame(
    arcs: Any,
    values: Any,
    before: Any,
    after: Any,
    costs_after: Any,
    places_after: Any,
    costs_before: Any,
    limit: Any,
) -> Any:
    """Drop the arcs of a frame whose paths are all too bad.

    Args:
        arcs: (A, 5) as in ``search_frame``; those that stay are moved to the front.
        values: (A, 2) likewise.
        before: (S,) score of the best path to each state before the frame.
        after: (S',) to each state after it.
        costs_after: (S',) by how much the best complete path through a state is worse than the best
            to the same end.
        places_after: (S',) new number of a state, -1 for one that is dropped.
        costs_before: (S,) what an end costs; changed to the like of ``costs_after``.
        limit: the highest cost that stays.

    Returns:
        How many arcs stay.
    """
    num = 0
    for arc in range(len(arcs)):
        source, target = arcs[arc, 0], arcs[arc, 1]
        if places_after[target] == NONE:
            continue
        reached = before[source] + values[arc, 0] + values[arc, 1]
        cost = costs_after[target] + (after[target] - reached)
        if not cost <= limit:
            continue
        costs_before[source] = min(costs_before[source], cost)
        arcs[num, 0], arcs[num, 1] = source, places_after[target]
        for k in range(2, 5):
            arcs[num, k] = arcs[arc, k]
        values[num, 0], values[num, 1] = values[arc, 0], values[arc, 1]
        num += 1
    return num
