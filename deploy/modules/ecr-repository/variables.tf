variable "region" {
  description = "AWS region of the repository."
  type        = string
}

variable "repository_name" {
  description = "Name of the repository, with the broker's repo_prefix: rise/my-app."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*$", var.repository_name)) && length(var.repository_name) >= 2 && length(var.repository_name) <= 256
    error_message = "Expected 2 to 256 characters: lower-case path components, as in rise/my-app."
  }
}

variable "image_tag_mutability" {
  description = "MUTABLE, or IMMUTABLE if a tag must never move to another image."
  type        = string
  default     = "MUTABLE"

  validation {
    condition     = contains(["MUTABLE", "IMMUTABLE"], var.image_tag_mutability)
    error_message = "Expected MUTABLE or IMMUTABLE."
  }
}

variable "scan_on_push" {
  description = "Whether ECR looks for known vulnerabilities in each image that is pushed."
  type        = bool
  default     = true
}

variable "image_retention_count" {
  description = "How many images with a version tag such as v1.0 are kept."
  type        = number
  default     = 10

  validation {
    condition     = var.image_retention_count >= 1 && floor(var.image_retention_count) == var.image_retention_count
    error_message = "Expected a whole number from 1."
  }
}

variable "untagged_retention_days" {
  description = "After how many days an image without a tag is removed."
  type        = number
  default     = 7

  validation {
    condition     = var.untagged_retention_days >= 1 && floor(var.untagged_retention_days) == var.untagged_retention_days
    error_message = "Expected a whole number from 1."
  }
}

variable "kms_key_arn" {
  description = "KMS key that encrypts the images. Without it, ECR encrypts them with AES256."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of the repository."
  type        = map(string)
  default     = {}
}
