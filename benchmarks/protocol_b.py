"""The co-saliency evaluation's protocol B: to every five images of a group one distractor, at random places, seed 0.

    python benchmarks/protocol_b.py DUTS-TR/groups.csv                   # writes benchmarks/protocol_b.csv
    python benchmarks/protocol_b.py DUTS-TR/groups.csv --folders OUT     # and the groups of A and B as folders

Protocol A is the groups as they are. `OUT/a` and `OUT/b` hold `images/GROUP/…` and `masks/GROUP/…`, the distractors
with black masks; the images and masks lie in `images` and `masks` beside the list of groups. Then

    keras-recnet cosal OUT/b/images --recursive -o maps
    keras-recnet evaluate --maps maps --masks OUT/b/masks --grouped
"""

import argparse
from pathlib import Path

from keras_recnet.pipelines import read_group_list, read_groups, with_distractors, write_group_folders, write_group_list

LIST = Path(__file__).with_suffix(".csv")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", type=Path, help="CSV file with the columns group, name and split")
    parser.add_argument("--split", default="validation", help="default: validation")
    parser.add_argument("--every", type=int, default=5, help="own images for each distractors one (default: 5)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, default=LIST, help="default: beside this script")
    parser.add_argument("--folders", type=Path, help="lay the groups of both protocols out in this folder")
    arguments = parser.parse_args()
    own = {
        group: [member.name for member in members]
        for group, members in read_group_list(arguments.groups, split=arguments.split).items()
    }
    listed = with_distractors(own, every=arguments.every, seed=arguments.seed)
    write_group_list(arguments.out, listed)
    distractors = sum(member.distractors for member in listed)
    print(f"{len(own)} groups, {len(listed) - distractors} images and {distractors} distractors -> {arguments.out}")
    if arguments.folders:
        data = arguments.groups.parent
        for name, path, split in (("a", arguments.groups, arguments.split), ("b", arguments.out, None)):
            write_group_folders(
                read_groups(path, data / "images", data / "masks", split=split), arguments.folders / name
            )


if __name__ == "__main__":
    main()
