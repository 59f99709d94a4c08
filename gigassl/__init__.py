"""Gigapixel histology slides into one compact vector each; every command is one function here.

The names load on first use, so that ``import gigassl`` stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers see of the names below
    from gigassl.bags.bag import open_bag as open_bag
    from gigassl.bags.bank import open_bank as open_bank
    from gigassl.bags.bank_draws import DrawSettings as DrawSettings
    from gigassl.bags.grid import CompressedSlide as CompressedSlide
    from gigassl.bags.prepare import TileSettings as TileSettings
    from gigassl.errors import GigasslError as GigasslError
    from gigassl.evaluate.comparison import CompareSettings as CompareSettings
    from gigassl.evaluate.estimators import SlideProbe as SlideProbe
    from gigassl.evaluate.estimators import SlideRegressor as SlideRegressor
    from gigassl.evaluate.estimators import SlideSurvival as SlideSurvival
    from gigassl.evaluate.mil.saved import load_mil_model as load_mil_model
    from gigassl.evaluate.needles.curve import NeedleCurveSettings as NeedleCurveSettings
    from gigassl.evaluate.needles.curve import NeedleVariant as NeedleVariant
    from gigassl.evaluate.needles.network import NeedleNetworkSettings as NeedleNetworkSettings
    from gigassl.evaluate.needles.training import NeedleTrainingSettings as NeedleTrainingSettings
    from gigassl.evaluate.probe_settings import ProbeSettings as ProbeSettings
    from gigassl.evaluate.probes import fit_probe as fit_probe
    from gigassl.evaluate.probes import run_probe as run_probe
    from gigassl.evaluate.screening import ScreenSettings as ScreenSettings
    from gigassl.evaluate.split_files import read_splits as read_splits
    from gigassl.evaluate.split_files import write_splits as write_splits
    from gigassl.evaluate.splits import SplitSettings as SplitSettings
    from gigassl.evaluate.splits import make_splits as make_splits
    from gigassl.pipeline.bag_encoder import BagEncoder as BagEncoder
    from gigassl.pipeline.bank import BankSettings as BankSettings
    from gigassl.pipeline.bank import encode_bank as encode_bank
    from gigassl.pipeline.bank import estimate_bank as estimate_bank
    from gigassl.pipeline.bank_merge import merge_banks as merge_banks
    from gigassl.pipeline.compare import compare_files as compare_files
    from gigassl.pipeline.demo import demo as demo
    from gigassl.pipeline.doctor import examine as examine
    from gigassl.pipeline.embed import EmbedSettings as EmbedSettings
    from gigassl.pipeline.embed import embed as embed
    from gigassl.pipeline.embed_result import EmbedResult as EmbedResult
    from gigassl.pipeline.encode import encode as encode
    from gigassl.pipeline.evaluation import TaskOptions as TaskOptions
    from gigassl.pipeline.evaluation import question as question
    from gigassl.pipeline.explain import explain as explain
    from gigassl.pipeline.explain_options import ExplainOptions as ExplainOptions
    from gigassl.pipeline.fewshot import FewshotOptions as FewshotOptions
    from gigassl.pipeline.fewshot import fewshot as fewshot
    from gigassl.pipeline.fit import FitSettings as FitSettings
    from gigassl.pipeline.fit import fit as fit
    from gigassl.pipeline.import_model import import_model as import_model
    from gigassl.pipeline.import_model import import_tile_encoder as import_tile_encoder
    from gigassl.pipeline.import_vectors import ImportOptions as ImportOptions
    from gigassl.pipeline.import_vectors import import_vectors as import_vectors
    from gigassl.pipeline.inspection import inspect as inspect
    from gigassl.pipeline.jobs import RunOptions as RunOptions
    from gigassl.pipeline.merge import merge as merge
    from gigassl.pipeline.mil import MilOptions as MilOptions
    from gigassl.pipeline.mil import mil as mil
    from gigassl.pipeline.needles import needle_curve as needle_curve
    from gigassl.pipeline.predict import PredictOptions as PredictOptions
    from gigassl.pipeline.predict import predict as predict
    from gigassl.pipeline.preflight import estimate_embed as estimate_embed
    from gigassl.pipeline.pretrain import NetworkSettings as NetworkSettings
    from gigassl.pipeline.pretrain import PretrainOptions as PretrainOptions
    from gigassl.pipeline.pretrain import pretrain as pretrain
    from gigassl.pipeline.pretrain_tiles import pretrain_tiles as pretrain_tiles
    from gigassl.pipeline.pretrain_tiles_data import TileDataOptions as TileDataOptions
    from gigassl.pipeline.pretrain_tiles_data import TileDataSettings as TileDataSettings
    from gigassl.pipeline.pretrain_tiles_preview import preview_tiles as preview_tiles
    from gigassl.pipeline.pretrain_tiles_settings import (
        PretrainTilesOptions as PretrainTilesOptions,
    )
    from gigassl.pipeline.pretrain_tiles_settings import (
        PretrainTilesSettings as PretrainTilesSettings,
    )
    from gigassl.pipeline.probe import ProbeOptions as ProbeOptions
    from gigassl.pipeline.probe import probe as probe
    from gigassl.pipeline.probe_tiles import probe_tiles as probe_tiles
    from gigassl.pipeline.probe_tiles_options import ProbeTilesOptions as ProbeTilesOptions
    from gigassl.pipeline.ray_settings import RayEngine as RayEngine
    from gigassl.pipeline.recipe import RecipeOptions as RecipeOptions
    from gigassl.pipeline.recipe import plan_recipe as plan_recipe
    from gigassl.pipeline.recipe import run_recipe as run_recipe
    from gigassl.pipeline.report import ReportOptions as ReportOptions
    from gigassl.pipeline.report import report_page as report_page
    from gigassl.pipeline.screen import screen as screen
    from gigassl.pipeline.screen_targets import ScreenOptions as ScreenOptions
    from gigassl.pipeline.search import SearchOptions as SearchOptions
    from gigassl.pipeline.search import search as search
    from gigassl.pipeline.search_metrics import RetrievalOptions as RetrievalOptions
    from gigassl.pipeline.search_metrics import retrieval as retrieval
    from gigassl.pipeline.search_query import QueryOptions as QueryOptions
    from gigassl.pipeline.sites import sites as sites
    from gigassl.pipeline.synth_needles import SynthNeedlesSettings as SynthNeedlesSettings
    from gigassl.pipeline.synth_needles import synth_needles as synth_needles
    from gigassl.pipeline.synth_nic import SynthNicSettings as SynthNicSettings
    from gigassl.pipeline.synth_nic import synth_nic as synth_nic
    from gigassl.pipeline.task_subsets import TaskSubsetsSettings as TaskSubsetsSettings
    from gigassl.pipeline.task_subsets import task_subsets as task_subsets
    from gigassl.pipeline.verify import verify as verify
    from gigassl.pipeline.verify_settings import VerifyOptions as VerifyOptions
    from gigassl.slides.cohort import Cohort as Cohort
    from gigassl.slides.cohort import read_cohort as read_cohort
    from gigassl.slides.digit_layout import DigitSlideSettings as DigitSlideSettings
    from gigassl.slides.digit_slides import draw_slides as draw_slides
    from gigassl.slides.digits import read_digits as read_digits
    from gigassl.slides.grid import GridSettings as GridSettings
    from gigassl.slides.needles import NeedleSettings as NeedleSettings
    from gigassl.slides.needles import draw_needles as draw_needles
    from gigassl.slides.reader import open_slide as open_slide
    from gigassl.slides.synthetic import make_cohort as make_cohort
    from gigassl.slides.tissue import TissueSettings as TissueSettings
    from gigassl.stores import StoreSettings as StoreSettings
    from gigassl.tiles.augmentation import AugmentationSettings as AugmentationSettings
    from gigassl.tiles.encoders import load_encoder as load_encoder
    from gigassl.tiles.engine import TileEncoder as TileEncoder
    from gigassl.tiles.labelled_tasks import read_tasks as read_tasks
    from gigassl.tiles.pretrain.settings import SamplingSettings as SamplingSettings
    from gigassl.tiles.pretrain.settings import TilePretrainSettings as TilePretrainSettings
    from gigassl.tiles.training_networks import TileNetwork as TileNetwork
    from gigassl.vectors.ensemble import EnsembleSettings as EnsembleSettings
    from gigassl.vectors.ensemble import embed_bag as embed_bag
    from gigassl.vectors.pretrain.settings import PretrainSettings as PretrainSettings
    from gigassl.vectors.search import Searcher as Searcher
    from gigassl.vectors.search import nearest as nearest
    from gigassl.vectors.slide_model import load_slide_model as load_slide_model
    from gigassl.vectors.table import SlideTable as SlideTable
    from gigassl.vectors.table import open_table as open_table
    from gigassl.vectors.views import ViewSettings as ViewSettings

_HOME = {
    "AugmentationSettings": "gigassl.tiles.augmentation",
    "BagEncoder": "gigassl.pipeline.bag_encoder",
    "BankSettings": "gigassl.pipeline.bank",
    "Cohort": "gigassl.slides.cohort",
    "CompareSettings": "gigassl.evaluate.comparison",
    "CompressedSlide": "gigassl.bags.grid",
    "DigitSlideSettings": "gigassl.slides.digit_layout",
    "DrawSettings": "gigassl.bags.bank_draws",
    "EmbedResult": "gigassl.pipeline.embed_result",
    "EmbedSettings": "gigassl.pipeline.embed",
    "EnsembleSettings": "gigassl.vectors.ensemble",
    "ExplainOptions": "gigassl.pipeline.explain_options",
    "FewshotOptions": "gigassl.pipeline.fewshot",
    "FitSettings": "gigassl.pipeline.fit",
    "GigasslError": "gigassl.errors",
    "GridSettings": "gigassl.slides.grid",
    "ImportOptions": "gigassl.pipeline.import_vectors",
    "MilOptions": "gigassl.pipeline.mil",
    "NeedleCurveSettings": "gigassl.evaluate.needles.curve",
    "NeedleNetworkSettings": "gigassl.evaluate.needles.network",
    "NeedleSettings": "gigassl.slides.needles",
    "NeedleTrainingSettings": "gigassl.evaluate.needles.training",
    "NeedleVariant": "gigassl.evaluate.needles.curve",
    "NetworkSettings": "gigassl.pipeline.pretrain",
    "PredictOptions": "gigassl.pipeline.predict",
    "PretrainOptions": "gigassl.pipeline.pretrain",
    "PretrainSettings": "gigassl.vectors.pretrain.settings",
    "PretrainTilesOptions": "gigassl.pipeline.pretrain_tiles_settings",
    "PretrainTilesSettings": "gigassl.pipeline.pretrain_tiles_settings",
    "ProbeOptions": "gigassl.pipeline.probe",
    "ProbeSettings": "gigassl.evaluate.probe_settings",
    "ProbeTilesOptions": "gigassl.pipeline.probe_tiles_options",
    "QueryOptions": "gigassl.pipeline.search_query",
    "RayEngine": "gigassl.pipeline.ray_settings",
    "RecipeOptions": "gigassl.pipeline.recipe",
    "RetrievalOptions": "gigassl.pipeline.search_metrics",
    "ReportOptions": "gigassl.pipeline.report",
    "RunOptions": "gigassl.pipeline.jobs",
    "SamplingSettings": "gigassl.tiles.pretrain.settings",
    "ScreenOptions": "gigassl.pipeline.screen_targets",
    "ScreenSettings": "gigassl.evaluate.screening",
    "SearchOptions": "gigassl.pipeline.search",
    "Searcher": "gigassl.vectors.search",
    "SlideProbe": "gigassl.evaluate.estimators",
    "SlideRegressor": "gigassl.evaluate.estimators",
    "SlideSurvival": "gigassl.evaluate.estimators",
    "SlideTable": "gigassl.vectors.table",
    "SplitSettings": "gigassl.evaluate.splits",
    "StoreSettings": "gigassl.stores",
    "SynthNeedlesSettings": "gigassl.pipeline.synth_needles",
    "SynthNicSettings": "gigassl.pipeline.synth_nic",
    "TaskOptions": "gigassl.pipeline.evaluation",
    "TaskSubsetsSettings": "gigassl.pipeline.task_subsets",
    "TileDataOptions": "gigassl.pipeline.pretrain_tiles_data",
    "TileDataSettings": "gigassl.pipeline.pretrain_tiles_data",
    "TileEncoder": "gigassl.tiles.engine",
    "TileNetwork": "gigassl.tiles.training_networks",
    "TilePretrainSettings": "gigassl.tiles.pretrain.settings",
    "TileSettings": "gigassl.bags.prepare",
    "TissueSettings": "gigassl.slides.tissue",
    "VerifyOptions": "gigassl.pipeline.verify_settings",
    "ViewSettings": "gigassl.vectors.views",
    "compare_files": "gigassl.pipeline.compare",
    "demo": "gigassl.pipeline.demo",
    "draw_needles": "gigassl.slides.needles",
    "draw_slides": "gigassl.slides.digit_slides",
    "embed": "gigassl.pipeline.embed",
    "embed_bag": "gigassl.vectors.ensemble",
    "encode": "gigassl.pipeline.encode",
    "encode_bank": "gigassl.pipeline.bank",
    "estimate_bank": "gigassl.pipeline.bank",
    "estimate_embed": "gigassl.pipeline.preflight",
    "examine": "gigassl.pipeline.doctor",
    "explain": "gigassl.pipeline.explain",
    "fewshot": "gigassl.pipeline.fewshot",
    "fit": "gigassl.pipeline.fit",
    "fit_probe": "gigassl.evaluate.probes",
    "import_model": "gigassl.pipeline.import_model",
    "import_tile_encoder": "gigassl.pipeline.import_model",
    "import_vectors": "gigassl.pipeline.import_vectors",
    "inspect": "gigassl.pipeline.inspection",
    "load_encoder": "gigassl.tiles.encoders",
    "load_mil_model": "gigassl.evaluate.mil.saved",
    "load_slide_model": "gigassl.vectors.slide_model",
    "make_cohort": "gigassl.slides.synthetic",
    "make_splits": "gigassl.evaluate.splits",
    "merge": "gigassl.pipeline.merge",
    "merge_banks": "gigassl.pipeline.bank_merge",
    "mil": "gigassl.pipeline.mil",
    "nearest": "gigassl.vectors.search",
    "needle_curve": "gigassl.pipeline.needles",
    "open_bag": "gigassl.bags.bag",
    "open_bank": "gigassl.bags.bank",
    "open_slide": "gigassl.slides.reader",
    "open_table": "gigassl.vectors.table",
    "plan_recipe": "gigassl.pipeline.recipe",
    "predict": "gigassl.pipeline.predict",
    "pretrain": "gigassl.pipeline.pretrain",
    "pretrain_tiles": "gigassl.pipeline.pretrain_tiles",
    "preview_tiles": "gigassl.pipeline.pretrain_tiles_preview",
    "probe": "gigassl.pipeline.probe",
    "probe_tiles": "gigassl.pipeline.probe_tiles",
    "question": "gigassl.pipeline.evaluation",
    "read_cohort": "gigassl.slides.cohort",
    "read_digits": "gigassl.slides.digits",
    "read_splits": "gigassl.evaluate.split_files",
    "read_tasks": "gigassl.tiles.labelled_tasks",
    "retrieval": "gigassl.pipeline.search_metrics",
    "report_page": "gigassl.pipeline.report",
    "run_probe": "gigassl.evaluate.probes",
    "run_recipe": "gigassl.pipeline.recipe",
    "screen": "gigassl.pipeline.screen",
    "search": "gigassl.pipeline.search",
    "sites": "gigassl.pipeline.sites",
    "synth_needles": "gigassl.pipeline.synth_needles",
    "synth_nic": "gigassl.pipeline.synth_nic",
    "task_subsets": "gigassl.pipeline.task_subsets",
    "verify": "gigassl.pipeline.verify",
    "write_splits": "gigassl.evaluate.split_files",
}
"""Public name → the module it lives in."""

__all__ = list(_HOME)  # built from the one table of names


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gigassl' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)
