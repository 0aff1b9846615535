variable "name" {
  description = "Name of the broker's role or user. The push role is called NAME-ecr-push."
  type        = string
  default     = "rise-backend"

  validation {
    condition     = can(regex("^[A-Za-z0-9+=,.@_-]{1,55}$", var.name))
    error_message = "The name must have 1 to 55 of the characters A-Za-z0-9+=,.@_-, as in rise-backend."
  }
}

variable "repo_prefix" {
  description = "Prefix of the repositories that credentials may open, with a / at the end: rise/."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*/)+$", var.repo_prefix))
    error_message = "The prefix must be lower-case path components with a / at the end, as in rise/."
  }
}

variable "auto_remove" {
  description = "Handed to the broker as its setting of the same name."
  type        = bool
  default     = false
}

variable "tags" {
  description = "Tags of everything that the module creates."
  type        = map(string)
  default     = {}
}

variable "create_iam_role" {
  description = "Whether to create the broker's role. Without it, create_iam_user is needed."
  type        = bool
  default     = true
}

variable "create_iam_user" {
  description = "Whether to create a user with an access key, for a broker outside AWS."
  type        = bool
  default     = false
}

variable "irsa_oidc_provider_arn" {
  description = "ARN of the IAM OIDC provider of the EKS cluster in which the broker runs."
  type        = string
  default     = null

  validation {
    condition     = var.irsa_oidc_provider_arn == null || can(regex("^arn:[a-z-]+:iam::[0-9]{12}:oidc-provider/.+$", var.irsa_oidc_provider_arn))
    error_message = "Expected the ARN of an IAM OIDC provider, arn:aws:iam::123456789012:oidc-provider/…."
  }
}

variable "irsa_namespace" {
  description = "Namespace of the broker's service account."
  type        = string
  default     = "rise-system"
}

variable "irsa_service_account" {
  description = "Name of the broker's service account."
  type        = string
  default     = "rise-backend"
}

variable "trusted_services" {
  description = "AWS services whose workloads may have the broker's role, if it is not for IRSA."
  type        = list(string)
  default     = ["ec2.amazonaws.com"]
}

variable "session_tags" {
  description = "Whether the roles allow the broker's settings session_tags and source_identity."
  type        = bool
  default     = false
}

variable "manage_repositories" {
  description = "Whether the broker may create, configure and tag repositories below repo_prefix, for its table [registries.NAME.repositories]; with auto_remove it may delete them, too."
  type        = bool
  default     = false
}

variable "revocation" {
  description = "Whether the broker may deny single sessions of the push role, for its setting revocation = \"deny-policy\". The push role then has a permissions boundary, so that nothing which is written into it can widen it."
  type        = bool
  default     = false
}

variable "broker_oidc_provider_arn" {
  description = "ARN of the IAM OIDC provider of the broker's own URL, for the setting web_identity: the push role trusts the broker's tokens, and the broker needs no role and no user."
  type        = string
  default     = null

  validation {
    condition     = var.broker_oidc_provider_arn == null || can(regex("^arn:[a-z-]+:iam::[0-9]{12}:oidc-provider/.+$", var.broker_oidc_provider_arn))
    error_message = "Expected the ARN of an IAM OIDC provider, arn:aws:iam::123456789012:oidc-provider/…."
  }
}

variable "broker_audience" {
  description = "Audience of the broker's tokens: one of the client ids of the IAM OIDC provider."
  type        = string
  default     = "sts.amazonaws.com"
}

variable "broker_subjects" {
  description = "Subjects of the broker's tokens that the push role trusts; * stands for any name. Name the registry: \"project:*:registry:prod:actions:*\"."
  type        = list(string)
  default     = []
}
