"""Explain: which tiles of a slide a model's answer comes from, for slides that it never saw."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from gigassl.bags.bag import Bag
from gigassl.bags.prepare import mask_path
from gigassl.digests import digest_of_settings
from gigassl.errors import SettingsError, SlideError
from gigassl.evaluate.explain.explanation import Explanation
from gigassl.evaluate.explain.record import (
    ExplainedSlide,
    read_record,
    read_records,
    save_record,
    scale_of,
)
from gigassl.evaluate.labels import some
from gigassl.pipeline.bag_job import BagJob
from gigassl.pipeline.explain_models import Explainable, chosen_model, load_models
from gigassl.pipeline.explain_options import (
    PREDICTED,
    TRUE,
    ExplainOptions,
    refuse,
    truth_of,
    wanted,
)
from gigassl.pipeline.explain_products import PRODUCTS, Scored, on_mask, save_products, tile_map
from gigassl.pipeline.explain_result import ExplainResult
from gigassl.pipeline.explain_words import answer_of, named, save_slide_table, title_of
from gigassl.pipeline.failures import Failure, missing_files, save_failures
from gigassl.pipeline.jobs import RunOptions
from gigassl.pipeline.output import claimed, make_folder
from gigassl.pipeline.progress import Progress, Silent
from gigassl.slides.cohort import Cohort, CohortSlide, read_cohort
from gigassl.slides.masks import read_mask
from gigassl.slides.reader import Slide, open_slide
from gigassl.versions import shaping_versions

log = logging.getLogger("gigassl")


def explain(
    source: Path | Cohort, out: Path, *, options: ExplainOptions, progress: Progress | None = None
) -> ExplainResult:
    """Explains slides: scores of their tiles, as pictures, tables and overlays, a folder a slide.

    Each slide is explained by a model that learned neither from it nor from its patient. What was
    explained before from the same inputs is kept; ``failures.csv`` lists what could not be.

    Args:
        source: folder, file or CSV of bags, ours or other tools'.
        out: folder to write to.
        options: models and slides.

    Raises:
        SettingsError: models, slides or settings that cannot be used; no slide that the models did
            not learn from.
        BusyError: another run writes there.
        MachineError: disk full, read-only folder.
    """
    models = load_models(options.models, slide_encoder=options.slide_encoder, method=options.method)
    refuse(options, models[0])
    cohort = wanted(source if isinstance(source, Cohort) else read_cohort(source), options.only)
    against = read_records(options.against) if options.against else {}
    slides = read_cohort(options.slides) if options.slides else Cohort(slides=())
    run = _Run(
        cohort, out, models=models, options=options,
        files={slide.slide_id: slide for slide in slides.slides},
    )  # fmt: skip
    run.refuse_if_all_were_seen()
    make_folder(out)
    with claimed(out / "scores"):
        result = run.carry_out(progress or Silent())
    name = str(options.against) if options.against else ""
    return replace(result, other=name, against=against)


class _Run:
    """One run: the models, what is done already, and how it ends."""

    def __init__(
        self, cohort: Cohort, out: Path, *, models: Sequence[Explainable],
        options: ExplainOptions, files: Mapping[str, CohortSlide],
    ) -> None:  # fmt: skip
        self.cohort, self.out, self.models, self.options = cohort, out, models, options
        self.files = files
        self.truth = truth_of(options.predictions)
        reading = RunOptions(
            bag_encoder=options.bag_encoder, coords_unit=options.coords_unit,
            variants=any(model.on_crops for model in models),
        )  # fmt: skip
        self.job = BagJob(cohort.slides, options=reading, default_mpp=options.slide_mpp)
        self.done: dict[str, ExplainedSlide] = {}
        self.failures = missing_files(cohort)
        self.n_new = 0

    def refuse_if_all_were_seen(self) -> None:
        """Before any work: not one slide has a model that never saw it."""
        errors = [error for slide in self.cohort.slides if (error := self._seen_by_all(slide))]
        if errors and len(errors) == len(self.cohort.slides):
            named = some([slide.slide_id for slide in self.cohort.slides])
            raise SettingsError(f"slides {named}: {errors[0].reason}")

    def carry_out(self, progress: Progress) -> ExplainResult:
        progress.started(len(self.cohort.slides))
        interrupted = False
        outcomes = self.job.outcomes(self.cohort.slides, progress=progress)
        try:
            with closing(outcomes):
                for outcome in outcomes:
                    self._note(outcome.source, bag=outcome.bag, failure=outcome.failure)
        except KeyboardInterrupt:
            interrupted = True
        save_failures(self.failures, self.out / "failures.csv")
        slides = [self.done[name] for name in sorted(self.done)]
        save_slide_table(slides, self.out / "slides.csv")
        return ExplainResult(
            out=self.out, slides=slides, n_new=self.n_new, n_reused=len(slides) - self.n_new,
            failures=tuple(self.failures), notes=self._notes(slides), interrupted=interrupted,
        )  # fmt: skip

    def _seen_by_all(self, slide: CohortSlide) -> SlideError | None:
        try:
            self._model(slide)
        except SlideError as error:
            return error
        return None

    def _model(self, slide: CohortSlide) -> tuple[Explainable, bool]:
        return chosen_model(
            self.models, slide.slide_id, slide.patient_id,
            include_training=self.options.include_training,
        )  # fmt: skip

    def _note(self, source: CohortSlide, *, bag: Bag | None, failure: SlideError | None) -> None:
        try:
            if bag is None:
                raise failure or SlideError("no bag came back", stage="bag")
            self.done[source.slide_id] = self._explained(source, bag)
        except SlideError as error:
            log.warning("%s: %s", source.slide_id, error.reason)
            self.failures.append(Failure.of(source, error))

    def _explained(self, source: CohortSlide, bag: Bag) -> ExplainedSlide:
        model, learned_from = self._model(source)
        mask = self._mask_file(source)
        digest = self._digest(model, bag, learned_from=learned_from, mask=mask)
        folder = self.out / source.slide_id
        before = None if self.options.restart else read_record(folder)
        if before is not None and before.digest == digest:
            return before
        answer = model.says(bag)
        number, asked = self._number(model, source.slide_id, answer=answer)
        explanation = model.explain(bag, number=number)
        record = ExplainedSlide(
            digest=digest, slide_id=source.slide_id, patient_id=source.patient_id,
            model=model.name, method=model.method, learned_from=learned_from,
            explained=model.classes[number] if model.classes else answer_of(model), asked=asked,
            y_true=self.truth.get(source.slide_id, ""), answer=named(model, answer),
            meaning=explanation.meaning, how=explanation.method, output=explanation.output,
            offset=explanation.offset, completeness_error=explanation.completeness_error,
            n_tiles=len(bag), n_unseen=explanation.n_unseen,
        )  # fmt: skip
        record = self._saved(record, bag, explanation, mask=mask)
        self.n_new += 1
        return record

    def _saved(
        self, record: ExplainedSlide, bag: Bag, explanation: Explanation, *, mask: Path | None
    ) -> ExplainedSlide:
        folder = self.out / record.slide_id
        with ExitStack() as stack:
            slide = self._slide(record.slide_id, bag)
            if slide is not None:
                stack.enter_context(slide)
            tiles = tile_map(bag, explanation, slide=slide)
            record = replace(
                record, width_l0=tiles.width_l0, height_l0=tiles.height_l0, mpp_l0=tiles.mpp_l0
            )
            share = None
            if mask is not None:
                size = {"width_l0": tiles.width_l0, "height_l0": tiles.height_l0}
                found = on_mask(
                    tiles, read_mask(mask, **size, may_be_empty=True), seed=self.options.seed
                )
                share = found.share
                record = replace(
                    record, agreement=found.agreement, chance=found.chance,
                    in_tiles=found.in_tiles, mask_note=found.note,
                )  # fmt: skip
            elif self.options.masks is not None:
                record = replace(record, mask_note="there is no mask of this slide")
            scored = Scored(
                tiles=tiles, scale=scale_of(record), title=title_of(record), share=share
            )
            save_products(scored, folder, slide=slide)
        save_record(record, folder)
        return record

    def _slide(self, slide_id: str, bag: Bag) -> Slide | None:
        source = self.files.get(slide_id)
        if source is None:
            return None
        # a file that does not say its resolution has the one that its bag was made with
        mpp = source.mpp or bag.info.mpp_l0
        slide = open_slide(source.path, cohort_mpp=source.mpp, default_mpp=mpp)
        theirs, ours = (slide.info.width_l0, slide.info.height_l0), bag.info
        if ours.width_l0 and ours.height_l0 and theirs != (ours.width_l0, ours.height_l0):
            slide.close()
            raise SlideError(
                f"the slide {source.path.name} has {theirs[0]} × {theirs[1]} px, its bag was made "
                f"of {ours.width_l0} × {ours.height_l0}; give the same slide",
                stage="open",
            )
        return slide

    def _mask_file(self, source: CohortSlide) -> Path | None:
        try:
            return mask_path(source, self.options.masks)
        except SlideError:
            return None  # said in the record, and counted

    def _digest(
        self, model: Explainable, bag: Bag, *, learned_from: bool, mask: Path | None
    ) -> str:
        slide_id = bag.info.slide_id
        return digest_of_settings({
            "bag": [slide_id, bag.info.inputs_digest], "model": [model.name, model.digest],
            "learned_from": learned_from, "target": self.options.target,
            "truth": self.truth.get(slide_id, ""), "seed": self.options.seed,
            "mask": None if mask is None else hashlib.sha256(mask.read_bytes()).hexdigest(),
            "masks": self.options.masks is not None, "slide": slide_id in self.files,
            "products": PRODUCTS, "versions": shaping_versions(),
        })  # fmt: skip

    def _number(
        self, model: Explainable, slide_id: str, *, answer: Float64[np.ndarray, " answer"]
    ) -> tuple[int, str]:
        """Number of the class that is explained, and why that one."""
        if not model.classes:
            return 0, ""
        if self.options.target == PREDICTED:
            return int(answer.argmax()), PREDICTED
        name = self.options.target
        if name == TRUE:
            name = self.truth.get(slide_id, "")
            if name not in model.classes:
                raise SlideError(
                    f"its true class ('{name}') is none of the model's; explain the predicted one",
                    stage="encode",
                )
        return model.classes.index(name), TRUE if self.options.target == TRUE else "named"

    def _notes(self, slides: Sequence[ExplainedSlide]) -> list[str]:
        counted = {
            "slides explained by a model that learned from them or their patient: do not trust "
            "these": [s for s in slides if s.learned_from],
            "slides hold tiles that the model did not look at, which have no score": [
                s for s in slides if s.n_unseen
            ],
            "slides have no file under --slides, and no picture under the heat": [
                s for s in slides if self.options.slides and s.slide_id not in self.files
            ],
            "slides have no agreement with a mask (see slides.csv)": [
                s for s in slides if s.mask_note
            ],
        }
        return [f"{len(found)} {said}: {some([s.slide_id for s in found])}"
                for said, found in counted.items() if found]  # fmt: skip
