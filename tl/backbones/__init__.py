"""Backbones: inputs to feature vectors."""

from tl.backbones.base import Backbone, last_block, stages_of
from tl.backbones.cross_stitch import CrossStitch
from tl.backbones.lora import LoraBackbone
from tl.backbones.mtan import MTAN
from tl.backbones.pretrained import HuggingFaceBackbone, TimmBackbone, TorchvisionBackbone
from tl.backbones.resnet import ResNet18, ResNet34, ResNet50
from tl.backbones.resnet_cifar import ResNet20, ResNet32, ResNet44, ResNet56
from tl.backbones.task_groups import TaskGroups
from tl.backbones.text import TextBackbone
from tl.backbones.wide_resnet import WideResNet

__all__ = [
    "MTAN",
    "Backbone",
    "CrossStitch",
    "HuggingFaceBackbone",
    "LoraBackbone",
    "ResNet18",
    "ResNet20",
    "ResNet32",
    "ResNet34",
    "ResNet44",
    "ResNet50",
    "ResNet56",
    "TaskGroups",
    "TextBackbone",
    "TimmBackbone",
    "TorchvisionBackbone",
    "WideResNet",
    "last_block",
    "stages_of",
]
