"""Lines of ARPA files as numbers: fields, words and plain decimals out of bytes.

Whatever a line has that is not plain, from infinities to too many fields, is left to the caller,
who knows what to say of it. Whole numbers stay below 2^63 without wrapping round.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zipasr.kernels.availability import loop

TAB, LINE_FEED, RETURN, BLANK, BACKSLASH = 9, 10, 13, 32, 92
PLUS, MINUS, POINT, ZERO, NINE, EXPONENT = 43, 45, 46, 48, 57, 101
# Powers of ten that are exact, and the largest number that may get one digit more and stay so:
# the quotient of two exact numbers is rounded as the decimal is.
_POWERS = np.array([float(f"1e{n}") for n in range(23)])
_MOST = 900719925474098

# What ``read_ngrams`` keeps in its state.
POSITION, LINE, ROWS, STRANGERS, STRANGER_LINE, STRANGER_START, STRANGER_STOP = range(7)
# Why it stopped.
AT_END, AT_BACKSLASH, AT_ODD_LINE = range(3)


@loop
def word_table(letters: Any, bounds: Any, table: Any) -> None:
    """Fill a hash table with the words ``letters[bounds[i]:bounds[i + 1]]``.

    Args:
        letters: (B,) uint8.
        bounds: (E + 1,).
        table: -1 everywhere; its length is a power of two above E.
    """
    for entry in range(len(bounds) - 1):
        slot = _hash(letters, bounds[entry], bounds[entry + 1]) & (len(table) - 1)
        while table[slot] >= 0:
            slot = (slot + 1) & (len(table) - 1)
        table[slot] = entry


@loop
def read_ngrams(
    text: Any,
    stop: Any,
    order: Any,
    highest: Any,
    words: Any,
    ids: Any,
    values: Any,
    lines: Any,
    state: Any,
) -> Any:
    """Read lines of n-grams until one begins with a backslash or is not plain, or none is left.

    Args:
        text: (B,) uint8, whole lines.
        stop: where they end.
        order: words of each line.
        highest: the largest logarithm there may be.
        words: table, letters and bounds as in ``word_table``, and the number of each entry.
        ids: (R, order) numbers of the words; for single words (R, 2) where each is in the text.
        values: (R, 2) logarithm and weight, NaN for no weight.
        lines: (R,) number of each line.
        state: where the reader stands; see the names above.

    Returns:
        Why it stopped.
    """
    bounds = np.zeros((order + 3, 2), np.int64)
    while state[POSITION] < stop:
        start = end = state[POSITION]
        while end < stop and text[end] != LINE_FEED:
            end += 1
        first, last = _stripped(text, start, end)
        if first < last:
            if text[first] == BACKSLASH:
                return AT_BACKSLASH
            if _fields(text, first, last, bounds) < order + 1:
                return AT_ODD_LINE
            if not _read_row(text, bounds, order, highest, words, ids, values, lines, state):
                return AT_ODD_LINE
        state[LINE] += 1
        state[POSITION] = end + 1
    return AT_END


@loop
def _read_row(
    text: Any,
    bounds: Any,
    order: Any,
    highest: Any,
    words: Any,
    ids: Any,
    values: Any,
    lines: Any,
    state: Any,
) -> Any:
    """Read an n-gram out of its fields; False where it is not plain."""
    row, stranger = state[ROWS], 0
    if order == 1:
        ids[row, 0], ids[row, 1] = bounds[1, 0], bounds[1, 1]
    else:
        stranger = _numbers(text, bounds, order, words, ids[row])
    if stranger:
        if not state[STRANGERS]:
            state[STRANGER_LINE] = state[LINE] + 1
            state[STRANGER_START] = bounds[stranger, 0]
            state[STRANGER_STOP] = bounds[stranger, 1]
        state[STRANGERS] += 1
        return True
    if not _values(text, bounds, order, highest, values[row]):
        return False
    lines[row] = state[LINE] + 1
    state[ROWS] += 1
    return True


@loop
def _stripped(text: Any, start: Any, end: Any) -> Any:
    while start < end and _is_white(text[start]):
        start += 1
    while start < end and _is_white(text[end - 1]):
        end -= 1
    return start, end


@loop
def _is_white(letter: Any) -> Any:
    return letter in (BLANK, TAB, RETURN)


@loop
def _fields(text: Any, start: Any, stop: Any, bounds: Any) -> Any:
    """Find what stands between blanks and tabs; return how many there are, -1 for too many.

    ``bounds`` has room for one more than there may be; rows that are not used are emptied.
    """
    count = 0
    at = start
    while at < stop:
        if count == len(bounds) - 1:
            return -1
        bounds[count, 0] = at
        while at < stop and text[at] != BLANK and text[at] != TAB:
            at += 1
        bounds[count, 1] = at
        count += 1
        while at < stop and (text[at] == BLANK or text[at] == TAB):
            at += 1
    bounds[count:] = 0
    return count


@loop
def _numbers(text: Any, bounds: Any, order: Any, words: Any, ids: Any) -> Any:
    """Look up the words of a line; return the place of the first unknown one, or 0."""
    table, letters, places, numbers = words
    for n in range(1, order + 1):
        start, stop = bounds[n, 0], bounds[n, 1]
        slot = _hash(text, start, stop) & (len(table) - 1)
        while table[slot] >= 0 and not _is_word(text, start, stop, letters, places, table[slot]):
            slot = (slot + 1) & (len(table) - 1)
        if table[slot] < 0:
            return n
        ids[n - 1] = numbers[table[slot]]
    return 0


@loop
def _hash(text: Any, start: Any, stop: Any) -> Any:
    value = 2166136261
    for at in range(start, stop):
        value = ((value ^ int(text[at])) * 16777619) & 0xFFFFFFFF
    return value ^ (value >> 15)


@loop
def _is_word(text: Any, start: Any, stop: Any, letters: Any, places: Any, entry: Any) -> Any:
    first = places[entry]
    if places[entry + 1] - first != stop - start:
        return False
    for at in range(stop - start):  # noqa: SIM110 - compiles
        if text[start + at] != letters[first + at]:
            return False
    return True


@loop
def _values(text: Any, bounds: Any, order: Any, highest: Any, values: Any) -> Any:
    """Read logarithm and weight of a line; say whether both are plain numbers in their range."""
    values[0] = _decimal(text, bounds[0, 0], bounds[0, 1])
    values[1] = np.nan
    if not -1000.0 <= values[0] <= highest:
        return False
    if bounds[order + 1, 1] > 0:
        values[1] = _decimal(text, bounds[order + 1, 0], bounds[order + 1, 1])
        return -1000.0 <= values[1] < 1000.0
    return True


@loop
def _decimal(text: Any, start: Any, stop: Any) -> Any:
    """Read a decimal number, rounded as it should be; NaN for what is none, or a long one."""
    negative = text[start] == MINUS
    at = start + 1 if negative or text[start] == PLUS else start
    digits, scale, value, shift = 0, 0, 0, 0
    while at < stop and (ZERO <= text[at] <= NINE or (text[at] == POINT and shift == 0)):
        if text[at] == POINT:
            shift = 1
        else:
            if value > _MOST:
                return np.nan
            value = value * 10 + (int(text[at]) - ZERO)
            digits += 1
            scale -= shift
        at += 1
    if at < stop:
        if int(text[at]) | BLANK != EXPONENT:
            return np.nan
        exponent = _exponent(text, at + 1, stop)
        scale += exponent
    if digits == 0 or not -22 <= scale <= 22:
        return np.nan
    size = value / _POWERS[-scale] if scale < 0 else value * _POWERS[scale]
    return -size if negative else size


@loop
def _exponent(text: Any, start: Any, stop: Any) -> Any:
    """Read what follows the letter e; something out of range for what is no number."""
    negative = start < stop and text[start] == MINUS
    at = start + 1 if negative or (start < stop and text[start] == PLUS) else start
    if at == stop or stop - at > 4:
        return 1000000
    value = 0
    for place in range(at, stop):
        if not ZERO <= text[place] <= NINE:
            return 1000000
        value = value * 10 + (int(text[place]) - ZERO)
    return -value if negative else value
