"""Which words count as the same when errors are counted: said with every result."""

from __future__ import annotations

from zipasr.scoring.reports import Transcript
from zipasr.text.normalise import normalise

AS_WRITTEN = "words are compared as they are written"
NORMALISED = "words are compared in upper case and without punctuation"


def normalised(transcript: Transcript) -> Transcript:
    """Return the same with reference and recognised words in one spelling."""
    ref, hyp = (normalise(" ".join(words)).split() for words in (transcript.ref, transcript.hyp))
    return transcript._replace(ref=ref, hyp=hyp)
