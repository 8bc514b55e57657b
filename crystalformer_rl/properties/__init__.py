"""Band gap and dielectric constants from frozen embeddings of a potential and features of composition and structure."""

from crystalformer_rl.properties.models import Prediction, PropertyModels
from crystalformer_rl.properties.prediction import check_embedding, embed, properties_table

__all__ = ["Prediction", "PropertyModels", "check_embedding", "embed", "properties_table"]
