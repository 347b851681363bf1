"""SNS topics by their ARN: which region and which hosts of AWS's belong to one."""

from __future__ import annotations

import re
from dataclasses import dataclass

SUFFIXES = {"aws": "amazonaws.com", "aws-us-gov": "amazonaws.com", "aws-cn": "amazonaws.com.cn"}
"""The domain of AWS's hosts by partition. Isolated partitions are not supported: they have no SES."""
_ARN = re.compile(
    r"arn:(?P<partition>aws|aws-cn|aws-us-gov):sns:(?P<region>[a-z]{2}(?:-[a-z]+)+-\d{1,2})"
    r":(?P<account>\d{12}):(?P<name>[A-Za-z0-9_-]{1,256}(?:\.fifo)?)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic and what its ARN says."""

    arn: str
    partition: str
    region: str
    account: str
    name: str

    @property
    def suffix(self) -> str:
        """The domain of AWS's hosts in the topic's partition."""
        return SUFFIXES[self.partition]

    @property
    def host(self) -> str:
        """SNS's own host in the topic's region: the only one its certificate may come from."""
        return f"sns.{self.region}.{self.suffix}"


def read(arn: str) -> Topic | None:
    """The topic of an ARN; None for anything else."""
    match = _ARN.fullmatch(arn)
    return Topic(arn, **match.groupdict()) if match else None
