"""Who is at the other end of a connection to a server, and whether they may write."""

from dataclasses import dataclass

from ems.northbound import WriteRights


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who is at the other end, as far as it is proved."""

    server: str
    address: str
    name: str = ""  # subject of its certificate; "": it has shown none
    common_name: str = ""
    role: str = ""  # in its certificate
    protected: bool = False  # it has proved that the certificate is its own

    @property
    def words(self) -> str:
        """For a person, and for the edge's record."""
        who = self.name or "no certificate"
        return f"{self.server}: {who}{f', role {self.role}' if self.role else ''}, at {self.address}"


def not_allowed(client: Client, rights: WriteRights) -> str:
    """Why this client may write nothing; "": it may."""
    if client.protected:
        if client.role in rights.roles or client.common_name in rights.subjects:
            return ""
        return "its certificate has neither a role nor a common name that may write"
    if client.address in rights.plain_from:
        return ""
    return "without TLS and a certificate it may only read"
