"""What a model rests on: papers, and the terms of the data it learned from."""

RLE = """@inproceedings{li2021human,
  title={Human pose regression with residual log-likelihood estimation},
  author={Li, Jiefeng and Bian, Siyuan and Zeng, Ailing and Wang, Can and Pang, Bo and Liu, Wentao and Lu, Cewu},
  booktitle={Proceedings of the IEEE/CVF International Conference on Computer Vision},
  year={2021}
}"""
DEEPPOSE = """@inproceedings{toshev2014deeppose,
  title={DeepPose: Human pose estimation via deep neural networks},
  author={Toshev, Alexander and Szegedy, Christian},
  booktitle={Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition},
  pages={1653--1660},
  year={2014}
}"""
MMPOSE = """@misc{mmpose2020,
  title={OpenMMLab Pose Estimation Toolbox and Benchmark},
  author={MMPose Contributors},
  howpublished={\\url{https://github.com/open-mmlab/mmpose}},
  year={2020}
}"""
DATA = {
    "coco": """@inproceedings{lin2014microsoft,
  title={Microsoft COCO: Common objects in context},
  author={Lin, Tsung-Yi and Maire, Michael and Belongie, Serge and Hays, James and Perona, Pietro and Ramanan, Deva
          and Doll{\\'a}r, Piotr and Zitnick, C Lawrence},
  booktitle={European Conference on Computer Vision},
  pages={740--755},
  year={2014}
}""",
    "mpii": """@inproceedings{andriluka14cvpr,
  title={2D human pose estimation: New benchmark and state of the art analysis},
  author={Andriluka, Mykhaylo and Pishchulin, Leonid and Gehler, Peter and Schiele, Bernt},
  booktitle={IEEE Conference on Computer Vision and Pattern Recognition},
  year={2014}
}""",
    "lspet": """@inproceedings{johnson2011learning,
  title={Learning effective human pose estimation from inaccurate annotation},
  author={Johnson, Sam and Everingham, Mark},
  booktitle={IEEE Conference on Computer Vision and Pattern Recognition},
  pages={1465--1472},
  year={2011}
}""",
}
TERMS = {
    "coco": "COCO train2017 ([cocodataset.org](https://cocodataset.org)): annotations under CC BY 4.0, photographs "
    "from Flickr, each under the licence that its owner chose",
    "mpii": "MPII Human Pose ([human-pose.mpi-inf.mpg.de](http://human-pose.mpi-inf.mpg.de)), whose terms are stated "
    "there; frames of YouTube videos",
    "lspet": "Leeds Sports Pose Extended: photographs from Flickr found by “parkour”, “gymnastics” and “athletics”, "
    "labelled by crowd workers with some errors; for research",
}
# By the recipe's `start`.
STARTS = {
    "torchvision": "The backbone started from ImageNet weights; ImageNet's terms allow research and education",
    "heatmap": "The backbone started from that of a heatmap model of the same data, and this from ImageNet weights; "
    "ImageNet's terms allow research and education",
}
