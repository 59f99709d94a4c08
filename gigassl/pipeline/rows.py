"""The row of a slide: its vector by a slide encoding, and the facts of its bag."""

from gigassl.bags.bag import Bag
from gigassl.pipeline.slide_encoding import SlideEncoding
from gigassl.slides.cohort import CohortSlide
from gigassl.vectors.row import SlideRow


def slide_row(
    source: CohortSlide, bag: Bag, *, encoding: SlideEncoding, settings_digest: str
) -> SlideRow:
    """The row that a table holds of an encoded slide.

    Args:
        settings_digest: of all settings that shape the vector.

    Raises:
        SlideError: the bag does not fit, or its vector cannot be normalised.
    """
    info = bag.info
    return SlideRow(
        slide_id=source.slide_id,
        patient_id=source.patient_id,
        patient_rule=source.patient_rule,
        file=source.path.name,
        n_tiles=len(bag.coords),
        **encoding.vector(bag),
        mpp=info.mpp_l0,
        mpp_source=info.mpp_source,
        effective_mpp=info.effective_mpp,
        width_l0=info.width_l0,
        height_l0=info.height_l0,
        slide_digest=info.slide_digest,
        inputs_digest=info.inputs_digest,
        settings_digest=settings_digest,
    )
